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
        what = f"files_from={path}: cannot be read: {reason}"
        raise UsageError(what, "check the path", parameters=("files_from",)) from error
    if null:
        entries = data.removeprefix(codecs.BOM_UTF8).split(b"\0")
    else:
        try:
            entries = _lines(_plain(data))
        except UnicodeDecodeError as error:
            what = f"files_from={path}: is UTF-16 or UTF-32 that is cut off or damaged"
            raise UsageError(what, "write it again", parameters=("files_from",)) from error
    names = [os.fsdecode(entry) for entry in entries if entry]
    if any("\0" in name for name in names):
        what = f"files_from={path}: its names are separated by null bytes"
        raise UsageError(what, "add `null`", parameters=("files_from", "null"))
    names = names if null else [_meant(name) for name in names]
    return ["./-" if name == STREAM else name for name in names]


def _lines(text: bytes) -> list[bytes]:
    """Of Unix, Windows or the old Mac, without their ends, the marks of lists put together, and blank ones."""
    lines = text.split(b"\n") if b"\n" in text else text.split(b"\r")
    return [line.removesuffix(b"\r").removeprefix(codecs.BOM_UTF8) for line in lines if line.strip()]


def _meant(name: str) -> str:
    """The name, or what is left of it without blanks or quotes around it, where that is a file and the name is none."""
    bare = name.strip()
    for candidate in (name, bare, bare[1:-1] if bare[:1] in "\"'" and bare[:1] == bare[-1:] else bare):
        if os.path.lexists(candidate):
            return candidate
    return name


def _plain(data: bytes) -> bytes:
    """The text in UTF-8, or the bytes as they are, without a byte order mark. Raises UnicodeDecodeError."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            data = data.removeprefix(mark)
            return data if encoding is None else _utf8(data, encoding)
    if b"\0" in data:  # without a mark: what is no such text does not decode, or has null bytes in it all the same
        for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            several, single = "\n" in text or "\r" in text, 5 * data.count(b"\0") > 2 * len(data) and "." in text
            if "\0" not in text and (several or single):
                return text.encode()
    return data


def _utf8(data: bytes, encoding: str) -> bytes:
    return data.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
