"""AV1 still pictures without their container: the boxes of a small AVIF file would cost some 275 bytes a tile."""

from __future__ import annotations

import struct

_TEMPLATE = bytes.fromhex(
    "0000002066747970617669660000000061766966"  # ftyp avif, 0: avif mif1 miaf MA1B
    "6d6966316d6961664d413142"
    "000000eb6d65746100000000"  # meta
    "0000002168646c72000000000000000070696374000000000000000000000000"  # hdlr pict
    "00"
    "0000000e7069746d000000000001"  # pitm: item 1
    "0000001e696c6f6300000000440000010001000000010000011300000000"  # iloc: at 275, so many bytes
    "0000002869696e660000000000010000001a696e6665020000000001000061763031436f6c6f7200"  # iinf: av01 "Color"
    "0000006a697072700000004b6970636f"  # iprp, ipco
    "0000001469737065000000000000000000000000"  # ispe: width, height
    "00000010706978690000000003080808"  # pixi: 8 bits
    "0000000c6176314381000c00"  # av1C: main profile, 4:2:0
    "00000013636f6c726e636c780001000d000680"  # colr nclx: 1, 13, 6, full range
    "0000001769706d61000000000000000100010401028304"  # ipma
    "000000006d646174"  # mdat: so many bytes and 8
)
_LENGTH, _SIDES, _DATA_SIZE = 117, 189, 267


def contained(stream: bytes, width: int, height: int) -> bytes:
    """An AVIF file of an AV1 stream as `bare` gives it: YCbCr 4:2:0 of 8 bits, BT.601, full range."""
    front = bytearray(_TEMPLATE)
    struct.pack_into(">I", front, _LENGTH, len(stream))
    struct.pack_into(">II", front, _SIDES, width, height)
    struct.pack_into(">I", front, _DATA_SIZE, len(stream) + 8)
    return bytes(front) + stream


def bare(file: bytes) -> bytes:
    """The AV1 stream of an AVIF file with a single item in one extent. Raises ValueError for another kind."""
    at = file.find(b"iloc")
    if at < 0 or len(file) < at + 26:
        raise ValueError("no iloc box")
    sizes, items = struct.unpack_from(">HH", file, at + 8)
    if file[at + 4] != 0 or sizes != 0x4400 or items != 1:
        raise ValueError("an iloc box of another kind")
    extents, offset, length = struct.unpack_from(">HII", file, at + 16)
    if extents != 1 or offset + length > len(file):
        raise ValueError("the picture lies in several pieces")
    return file[offset : offset + length]


def frame_size(stream: bytes) -> tuple[int, int] | None:
    """(width, height) that the stream itself claims: AV1 specification, 5.5; None for other than a still picture.

    A decoder believes it rather than the container, so it is looked at before anything is decoded.
    """
    at = 0
    while at + 2 <= len(stream):
        kind, extended, sized = stream[at] >> 3 & 15, stream[at] >> 2 & 1, stream[at] >> 1 & 1
        at += 1 + extended
        if not sized:
            return None
        length, shift = 0, 0
        while at < len(stream):
            length |= (stream[at] & 127) << shift
            at, shift, more = at + 1, shift + 7, stream[at] & 128
            if not more:
                break
        if kind == _SEQUENCE_HEADER:
            return _claimed(stream[at : at + min(length, 16)])
        at += length
    return None


_SEQUENCE_HEADER = 1


def _claimed(header: bytes) -> tuple[int, int] | None:
    bits = int.from_bytes(header.ljust(16, b"\0"), "big")

    def field(first: int, count: int) -> int:
        return bits >> (128 - first - count) & ((1 << count) - 1)

    if not field(4, 1):  # reduced_still_picture_header
        return None
    wide, high = field(10, 4) + 1, field(14, 4) + 1
    return field(18, wide) + 1, field(18 + wide, high) + 1
