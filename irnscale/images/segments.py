"""A block of bytes in a picture file that other programs pass over: where the coded detail is attached.

JPEG: APP11 segments, PNG: a private chunk, WebP: a private chunk, TIFF: a private tag, AVIF: a `uuid` box.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

from irnscale.errors import OutputError

MOST = 2**28
"""Bytes of a block that is read; none that we write is nearly as long."""
_IDENTIFIER = b"irnscale\0"
_MARKER = 0xEB  # APP11
_ROOM = 65533 - len(_IDENTIFIER) - 8
_CHUNK = b"irND"  # ancillary, private, not to be copied by programs that change the pixels
_WEBP_CHUNK = b"IRND"
_TAG = 65187  # of the range that TIFF leaves to everybody
_UNDEFINED = 7
_UUID = bytes.fromhex("69726e7363616c652064657461696c01")
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_BARE = {0x01, *range(0xD0, 0xDA)}
_SCAN = 0xDA


def attached(data: bytes, block: bytes, format: str) -> bytes:
    """The file (as `images.write` makes it, of `format`) with the block. Raises OutputError where it cannot be."""
    try:
        return _WRITERS[format](data, block)
    except (KeyError, struct.error, ValueError) as error:
        raise OutputError(
            f"no detail can be attached to this {format} file", "leave `attach` out", parameters=("attach",)
        ) from error


def attachment(data: bytes) -> bytes | None:
    """The block of a file; None where there is none, or it is damaged or longer than MOST. Never raises."""
    kinds = (
        (data.startswith(_PNG), _from_png),
        (data.startswith(_JPEG), _from_jpeg),
        (data[:4] == b"RIFF" and data[8:12] == b"WEBP", _from_webp),
        (data[:4] in (b"II*\0", b"MM\0*"), _from_tiff),
        (data[4:8] == b"ftyp", _from_boxes),
    )
    for fits, read in kinds:
        if fits:
            try:
                block = read(data)
            except (struct.error, ValueError, IndexError):
                return None
            return block if block is not None and len(block) <= MOST else None
    return None


def detached(data: bytes) -> bytes:
    """The file without the block that `attachment` found in it. Other bytes stay as they are."""
    block = attachment(data)
    if block is None:
        return data
    if data.startswith(_JPEG):
        for marker, content in list(_jpeg_segments(data)):
            if marker == _MARKER and content.startswith(_IDENTIFIER):
                data = data.replace(b"\xff\xeb" + struct.pack(">H", 2 + len(content)) + content, b"", 1)
        return data
    if data.startswith(_PNG):
        return data.replace(_png_chunk(block), b"", 1)
    if data.startswith(b"RIFF"):
        rest = data.replace(_webp_chunk(block), b"", 1)
        return b"RIFF" + struct.pack("<I", len(rest) - 8) + rest[8:]
    if data.startswith((b"II", b"MM")):
        # the entry stays, for a directory cannot shrink in place; what it points to is wiped
        return data.replace(block, bytes(len(block)), 1)
    return data.replace(_box(block), b"", 1)


def _jpeg(data: bytes, block: bytes) -> bytes:
    """Behind the segments that must come first (JFIF, EXIF), as many as are needed, numbered."""
    parts = [block[at : at + _ROOM] for at in range(0, len(block), _ROOM)]
    at = 2
    while data[at : at + 2] in (b"\xff\xe0", b"\xff\xe1"):
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    segments = [
        b"\xff\xeb"
        + struct.pack(">H", 2 + len(_IDENTIFIER) + 8 + len(part))
        + _IDENTIFIER
        + struct.pack(">II", index, len(parts))
        + part
        for index, part in enumerate(parts)
    ]
    return data[:at] + b"".join(segments) + data[at:]


def _from_jpeg(data: bytes) -> bytes | None:
    parts: dict[int, bytes] = {}
    count = 0
    for marker, content in _jpeg_segments(data):
        if marker == _MARKER and content.startswith(_IDENTIFIER):
            index, count = struct.unpack_from(">II", content, len(_IDENTIFIER))
            parts[index] = content[len(_IDENTIFIER) + 8 :]
    if not count or count * _ROOM > MOST + _ROOM or sorted(parts) != list(range(count)):
        return None
    return b"".join(parts[index] for index in range(count))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _SCAN:
            return
        if marker in _BARE or marker == 0xFF:
            at += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _png(data: bytes, block: bytes) -> bytes:
    """Behind the pixels."""
    end = data.rindex(b"IEND") - 4
    return data[:end] + _png_chunk(block) + data[end:]


def _png_chunk(block: bytes) -> bytes:
    return struct.pack(">I", len(block)) + _CHUNK + block + struct.pack(">I", zlib.crc32(_CHUNK + block))


def _from_png(data: bytes) -> bytes | None:
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == _CHUNK:
            block: bytes = data[at + 8 : at + 8 + length]
            crc = data[at + 8 + length : at + 12 + length]
            return block if crc == zlib.crc32(_CHUNK + block).to_bytes(4, "big") else None
        at += 12 + length
    return None


def _webp(data: bytes, block: bytes) -> bytes:
    """At the end, where unknown chunks belong; a simple file becomes an extended one, which they belong in."""
    if data[12:16] != b"VP8X":
        data = _extended(data)
    chunk = _webp_chunk(block)
    return b"RIFF" + struct.pack("<I", len(data) - 8 + len(chunk)) + data[8:] + chunk


def _webp_chunk(block: bytes) -> bytes:
    return _WEBP_CHUNK + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)


def _extended(data: bytes) -> bytes:
    kind = data[12:16]
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bits >> 28 & 1
    elif kind == b"VP8 ":
        width, height, alpha = *(side & 0x3FFF for side in struct.unpack_from("<HH", data, 26)), 0
    else:
        raise ValueError("a WebP file of an unknown kind")
    header = struct.pack("<I", alpha << 4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + header + data[12:]
    whole: bytes = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
    return whole


def _from_webp(data: bytes) -> bytes | None:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == _WEBP_CHUNK:
            return data[at + 8 : at + 8 + length] if at + 8 + length <= len(data) else None
        at += 8 + length + length % 2
    return None


def _tiff(data: bytes, block: bytes) -> bytes:
    """A copy of the first directory with one entry more, at the end of the file, after the block."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        raise ValueError("not a TIFF file")
    order = _tiff_order(data)
    directory = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, directory)[0]
    entries = [data[directory + 2 + 12 * k : directory + 14 + 12 * k] for k in range(count)]
    following = data[directory + 2 + 12 * count : directory + 6 + 12 * count]
    data += b"\0" * (len(data) % 2)
    at = len(data)
    block += b"\0" * (4 - len(block) if len(block) <= 4 else 0)  # a shorter value would lie in the entry itself
    entries.append(struct.pack(order + "HHII", _TAG, _UNDEFINED, len(block), at))
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry))
    data += block + b"\0" * (len(block) % 2)
    copy = struct.pack(order + "H", len(entries)) + b"".join(entries) + following
    return data[:4] + struct.pack(order + "I", len(data)) + data[8:] + copy


def _from_tiff(data: bytes) -> bytes | None:
    order = _tiff_order(data)
    directory = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, directory)[0]
    for k in range(count):
        tag, kind, length, at = struct.unpack_from(order + "HHII", data, directory + 2 + 12 * k)
        if tag == _TAG and kind in (1, _UNDEFINED) and length > 4 and at + length <= len(data):
            return data[at : at + length]
    return None


def _tiff_order(data: bytes) -> str:
    return "<" if data.startswith(b"II") else ">"


def _boxes(data: bytes, block: bytes) -> bytes:
    """A box of its own kind behind the others."""
    return data + _box(block)


def _box(block: bytes) -> bytes:
    return struct.pack(">I4s", 24 + len(block), b"uuid") + _UUID + block


def _from_boxes(data: bytes) -> bytes | None:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"uuid" and data[at + 8 : at + 24] == _UUID and at + length <= len(data):
            return data[at + 24 : at + length]
        if length == 1:
            length = struct.unpack_from(">Q", data, at + 8)[0]
        if length < 8:
            return None
        at += length
    return None


_WRITERS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "jpg": _jpeg,
    "png": _png,
    "webp": _webp,
    "tiff": _tiff,
    "avif": _boxes,
}
