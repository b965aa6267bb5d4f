"""Lists of file names, in the encodings that shells and editors write them in."""

from __future__ import annotations

import codecs
import os
import sys
from pathlib import Path

from irnscale.errors import UsageError

STREAM = "-"
_MARKS = (
    (codecs.BOM_UTF8, None),  # bytes that are no UTF-8 may follow, and are names too
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_list(path: str, null: bool) -> list[str]:
    """The names in a list, one per line, or ended by null bytes; `-` is stdin. Raises UsageError.

    Bytes are taken as they are, but for a byte order mark and for UTF-16, in which PowerShell's `>` writes. Where names
    end with null bytes, a program wrote them: they may begin with what would be the mark of UTF-16.
    """
    try:
        data = sys.stdin.buffer.read() if path == STREAM else Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--files-from {path}: cannot be read: {reason}", "check the path") from error
    if null:
        entries = data.removeprefix(codecs.BOM_UTF8).split(b"\0")
    else:
        try:
            entries = [line.removesuffix(b"\r") for line in _plain(data).split(b"\n")]
        except UnicodeDecodeError as error:
            what = f"--files-from {path}: is UTF-16 or UTF-32 that is cut off or damaged"
            raise UsageError(what, "write it again") from error
    names = [os.fsdecode(entry) for entry in entries if entry]
    if any("\0" in name for name in names):
        raise UsageError(f"--files-from {path}: its names are separated by null bytes", "add -0")
    return ["./-" if name == STREAM else name for name in names]


def _plain(data: bytes) -> bytes:
    """The text in UTF-8, or the bytes as they are, without a byte order mark. Raises UnicodeDecodeError."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            data = data.removeprefix(mark)
            return data if encoding is None else _utf8(data, encoding)
    if b"\0" in data and len(data) % 2 == 0:
        for encoding, high in (("utf-16-le", 1), ("utf-16-be", 0)):  # without a mark: every other byte of ASCII is null
            zeros = [i for i in range(high, len(data), 2) if not data[i]]
            if len(zeros) == data.count(b"\0") and "\n".encode(encoding) in (
                data[i - high : i - high + 2] for i in zeros
            ):
                return _utf8(data, encoding)
    return data


def _utf8(data: bytes, encoding: str) -> bytes:
    return data.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
