"""A decoder of the detail layer written from docs/detail.md alone: numpy, Pillow, and the network's base.

Nothing here knows irnscale's own code for the layer; `make_vectors` at the end makes the files anew
with the command line.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

import irnscale

VECTORS = Path(__file__).parent / "detail"
CONTAINER = bytes.fromhex(
    "0000002066747970617669660000000061766966 6d6966316d6961664d413142 000000eb6d65746100000000"
    "0000002168646c7200000000000000007069637400000000000000000000000000 0000000e7069746d000000000001"
    "0000001e696c6f6300000000440000010001000000010000011300000000"
    "0000002869696e660000000000010000001a696e6665020000000001000061763031436f6c6f7200"
    "0000006a697072700000004b6970636f 0000001469737065000000000000000000000000"
    "00000010706978690000000003080808 0000000c6176314381000c00 00000013636f6c726e636c780001000d000680"
    "0000001769706d61000000000000000100010401028304 000000006d646174"
)


def tiles(w: int, h: int, side: int):
    """(index, rows, columns)"""
    across, down = -(-w // side), -(-h // side)
    for k in range(across * down):
        y, x = divmod(k, across)
        yield (
            k,
            slice(y * h // down, (y + 1) * h // down),
            slice(x * w // across, (x + 1) * w // across),
        )


def large(rows: slice, columns: slice, s: int, width: int, height: int):
    return (
        slice(rows.start * s, min(rows.stop * s, height)),
        slice(columns.start * s, min(columns.stop * s, width)),
    )


def as_bytes(digits: np.ndarray, bits: int) -> bytes:
    return np.packbits(np.unpackbits(digits[:, None].astype(np.uint8), axis=1)[:, 8 - bits :].ravel()).tobytes()


def picture(codec: int, payload: bytes, width: int, height: int) -> np.ndarray:
    if codec == 1:
        front = bytearray(CONTAINER)
        struct.pack_into(">I", front, 117, len(payload))
        struct.pack_into(">II", front, 189, width, height)
        struct.pack_into(">I", front, 267, len(payload) + 8)
        payload = bytes(front) + payload
    with Image.open(io.BytesIO(payload)) as image:
        assert image.size == (width, height)
        return np.asarray(image.convert("RGB")).astype(int) - 128


def checked(data: bytes, w: int, h: int, index: int, bits: int, channels: int, cells: bytes):
    """(header fields, payload) of a chunk whose CRC holds, else None"""
    length, crc = int.from_bytes(data[14:17], "big"), int.from_bytes(data[17:21], "big")
    payload = data[21 : 21 + length]
    place = struct.pack(">IIIBB", w, h, index, bits, channels)
    sound = data[:2] == b"\xd7\x1d" and data[2] >> 4 == 1 and len(payload) == length
    if not sound or zlib.crc32(data[:17] + place + cells + payload) != crc:
        return None
    fields = {"codec": data[2] & 15, "flags": data[3], "s": data[4], "pad": (data[5], data[6]), "side": data[7] * 16}
    return fields | {"digest": data[8:14].hex()}, payload


def network(cells: np.ndarray, bits: int, scale: int, size: tuple[int, int]) -> np.ndarray:
    m = 1 << bits
    middle = (cells.astype(int) * m * 257 + (m - 1) * 257 // 2).astype(np.uint16)
    middle = np.broadcast_to(middle, (*cells.shape[:2], 3)).copy()
    return irnscale.load(f"x{scale}", precision="float32").up(middle, size=size)


def decode_digits(samples: np.ndarray, bits: int, side: int) -> np.ndarray:
    h, w, channels = samples.shape
    found = []
    for index, rows, columns in tiles(w, h, side):
        part = samples[rows, columns]
        data = as_bytes((part & ((1 << bits) - 1)).ravel(), bits)
        chunk = checked(data, w, h, index, bits, channels, (part >> bits).tobytes())
        if chunk is not None:
            found.append((rows, columns, *chunk))
    fields = found[0][2]
    s = fields["s"]
    width, height = w * s - fields["pad"][0], h * s - fields["pad"][1]
    restored = network(samples >> bits, bits, s, (width, height)).astype(int)
    if fields["flags"] & 1:
        restored = np.repeat((2 * restored.sum(axis=2, keepdims=True) + 3) // 6, 3, axis=2)
    for rows, columns, said, payload in found:
        place = large(rows, columns, s, width, height)
        shape = restored[place].shape
        restored[place] += picture(said["codec"], payload, shape[1], shape[0])
    return restored.clip(0, 255)


def jpeg_block(data: bytes) -> bytes:
    parts, at = {}, 2
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xEB and content.startswith(b"irnscale\0"):
            parts[int.from_bytes(content[9:13], "big")] = content[17:]
        at += 2 + length
    return b"".join(parts[k] for k in sorted(parts))


def test_digits_of_a_colour_picture():
    _needs_avif()
    with Image.open(VECTORS / "colour_x2.png") as image:
        restored = decode_digits(np.asarray(image), bits=1, side=512)
    _compare(restored, "colour_x2_up.png")


def test_digits_of_a_gray_picture():
    _needs_avif()
    with Image.open(VECTORS / "gray_x2.png") as image:
        restored = decode_digits(np.asarray(image)[..., None], bits=2, side=512)
    _compare(restored, "gray_x2_up.png")


def test_a_block_in_a_jpeg_is_exact():
    data = (VECTORS / "exact_x2.jpg").read_bytes()
    block = jpeg_block(data)
    assert block[:5] == b"irnd\x01"
    kind, length = struct.unpack(">BI", block[5:10])
    assert (kind, length) == (2, len(block) - 10)
    s, depth, planes, width, height, _side, w, h, channels = struct.unpack(">BBBIIHIIB", block[10:32])
    assert (s, depth, planes, width, height, w, h, channels) == (2, 8, 3, 61, 47, 31, 24, 3)
    with Image.open(io.BytesIO(data)) as image:
        small = np.asarray(image)
    index, crc, original_crc, based = struct.unpack(">IIIB", block[32:45])
    assert (index, crc) == (0, zlib.crc32(small.tobytes() + block[40:]))
    stream = block[49 : 49 + int.from_bytes(block[45:49], "big")]
    with Image.open(io.BytesIO(stream)) as image:
        residual = np.asarray(image.convert("RGB")).astype(int)
    if based:
        x = small.astype(int)
        for axis in (0, 1):  # Keys's kernel at x2: taps at -2..1 and -1..2, in units of 2^-14
            x = np.moveaxis(x, axis, 0)
            edge = np.pad(x, ((2, 2), *[(0, 0)] * 2), mode="edge")
            n = len(x)
            near = [edge[k : k + n] for k in range(5)]
            first, second = (sum(t * v for t, v in zip(taps, near[f : f + 4], strict=True)) for taps, f in _TAPS)
            x = np.moveaxis(np.stack([first, second], axis=1).reshape(2 * n, *x.shape[1:]), 0, axis)
        base = ((x + (1 << 27)) >> 28).clip(0, 255)[:height, :width]
        residual = (base + residual - 128) % 256
    assert zlib.crc32(residual.astype(np.uint8).tobytes()) == original_crc
    _compare(residual, "original.png", most=0)


_QUARTER = (-1152, 14208, 3712, -384)
_TAPS = ((_QUARTER[::-1], 0), (_QUARTER, 1))


def test_the_records_say_so():
    with Image.open(VECTORS / "colour_x2.png") as image:
        image.load()
        said = json.loads(image.text["irnscale"])["detail"]
    assert (said["bits"], said["side"], said["codec"], said["attached"], said["exact"]) == (1, 512, "AVIF", 0, False)


def _compare(restored: np.ndarray, name: str, most: int = 2) -> None:
    with Image.open(VECTORS / name) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert restored.shape == expected.shape
    assert np.abs(restored - expected).max() <= most


def _needs_avif() -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")


def make_vectors() -> None:
    """Write the files of tests/detail anew: after a change of irn-x2 before it is released, never after."""
    from conftest import synthetic_photo

    from irnscale.cli.main import main

    VECTORS.mkdir(exist_ok=True)
    original, gray = VECTORS / "original.png", VECTORS / "gray.png"
    Image.fromarray(synthetic_photo(47, 61)).save(original)
    Image.fromarray(synthetic_photo(47, 61)).convert("L").save(gray)
    for source, name, options in (
        (original, "colour_x2.png", ["--detail", "1"]),
        (gray, "gray_x2.png", ["--detail", "2"]),
        (original, "exact_x2.jpg", ["--detail", "exact", "-q", "70"]),
    ):
        small = VECTORS / name
        assert not main(["down", str(source), "-s", "2", "-o", str(small), "--overwrite", *options])
        if name.endswith(".png"):
            assert not main(["up", str(small), "-o", str(small.with_stem(f"{small.stem}_up")), "--overwrite"])
    gray.unlink()


if __name__ == "__main__":
    make_vectors()
