"""Detail that somebody made to do harm: every check sum is right, what it protects is not."""

from __future__ import annotations

import io
import random
import resource
import struct
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import synthetic_photo
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from irnscale.detail import attached, cells, chunk, codec, exact
from irnscale.detail.pixels import cell_bytes, found
from irnscale.detail.tiles import grid

COMMON = chunk.Common(codec.WEBP, 0, 2, (0, 0), 32, "0123456789ab")
SMALL = synthetic_photo(40, 48)
KINDS = [kind for kind in codec.CODECS if codec.has(kind)]
WIDE, HIGH = 64, 48


def _stream(kind: int, width: int = WIDE, height: int = HIGH) -> bytes:
    residual = synthetic_photo(height, width).astype(np.int16) - 128
    return codec.encode(residual, kind, 40)


def _mutated(data: bytes, seed: int) -> bytes:
    """Some bytes changed, cut out or repeated; the same for the same seed."""
    random_ = random.Random(seed)
    result = bytearray(data)
    for _ in range(random_.randint(1, 8)):
        at = random_.randrange(len(result))
        change = random_.randrange(4)
        if change == 0:
            result[at] ^= 1 << random_.randrange(8)
        elif change == 1:
            result[at : at + 4] = random_.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\1\0\0"])
        elif change == 2 and len(result) > 40:
            del result[at : at + random_.randrange(1, 20)]
        else:
            result[at:at] = result[at : at + random_.randrange(1, 20)]
    return bytes(result)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_its_tile_or_nothing(kind):
    """Also in a time and a memory that no stream decides about."""
    whole = _stream(kind)
    assert codec.decode(whole, kind, WIDE, HIGH).shape == (HIGH, WIDE, 3)
    for width, height in ((WIDE + 1, HIGH), (WIDE, HIGH - 1), (4096, 4096)):
        assert codec.decode(_stream(kind, min(width, 200), min(height, 200)), kind, WIDE, HIGH) is None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(300):
        started = time.perf_counter()
        result = codec.decode(_mutated(whole, seed), kind, WIDE, HIGH)
        assert time.perf_counter() - started < 5
        assert result is None or (result.shape == (HIGH, WIDE, 3) and abs(result).max() <= 128)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.skipif(codec.WEBP not in KINDS, reason="this Pillow has no WebP")
def test_another_picture_than_the_tile_is_refused():
    file = io.BytesIO()
    frames = [Image.fromarray(synthetic_photo(HIGH, WIDE, seed)) for seed in range(2)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    assert codec.decode(file.getvalue(), codec.WEBP, WIDE, HIGH) is None
    file = io.BytesIO()
    frames[0].convert("RGBA").save(file, "WEBP", lossless=True)
    frames[0].save(png := io.BytesIO(), "PNG")
    assert codec.decode(png.getvalue(), codec.WEBP, WIDE, HIGH) is None


@given(st.binary(max_size=80), st.integers(0, 255), st.integers(2, 255), st.integers(1, 255), st.integers(0, 2**24 - 1))
@example(b"", 0, 2, 1, 2**24 - 1)
def test_headers_are_what_they_may_be_or_nothing(payload, flags, scale, side, length):
    fields = struct.pack(">B", chunk.VERSION << 4 | codec.WEBP) + bytes([flags, scale, 0, 0, side]) + bytes(6)
    parsed = chunk.parse(chunk.MAGIC + fields + length.to_bytes(3, "big") + bytes(4) + payload)
    assert parsed is None or parsed[0].scale <= 64


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3]))
def test_any_digits_are_read(seed, bits):
    """Headers with true sums and any fields, in samples of any size."""
    random_ = np.random.default_rng(seed)
    height, width = random_.integers(1, 60, 2)
    samples = random_.integers(0, 256, (height, width, 3)).astype(np.uint8)
    upper, digits = cells.split(samples, bits)
    common = replace(COMMON, scale=int(random_.integers(2, 65)), side=16 * int(random_.integers(1, 40)), padding=(1, 1))
    place = chunk.Place(int(width), int(height), bits, 3)
    for tile in grid(int(width), int(height), common.side):
        data = chunk.pack(
            common, place, tile, cell_bytes(upper[tile.small]), random_.bytes(int(random_.integers(0, 90)))
        )
        group = cells.bytes_to_digits(data, bits)
        part = digits[tile.small]
        flat = part.reshape(-1).copy()
        flat[: len(group)] = group[: len(flat)]
        digits[tile.small] = flat.reshape(part.shape)
    layer = found(cells.joined(upper, digits, bits))
    for payload in () if layer is None else layer.payloads.values():
        assert codec.decode(payload, codec.WEBP, WIDE, HIGH) is None


def test_blocks_that_lie():
    """Lengths, indices and sizes of an attached block, changed one after the other."""
    payloads: list[bytes | None] = [_stream(codec.WEBP) for _ in grid(48, 40, COMMON.side)]
    lossy = attached.lossy_section(COMMON, SMALL, payloads)
    original = synthetic_photo(80, 96)
    whole = attached.block({attached.LOSSY: lossy, attached.EXACT: exact.encoded(original, SMALL, 2)})
    for seed in range(400):
        sections = attached.sections(_mutated(whole, seed))
        layer = attached.lossy_layer(sections.get(attached.LOSSY, b""), SMALL)
        assert layer is None or len(layer.payloads) <= len(payloads)
        try:
            lossless = exact.Exact(sections.get(attached.EXACT, b""), SMALL)
        except ValueError:
            continue
        for place, pixels in lossless.tiles():
            if (lossless.width, lossless.height, lossless.planes) == (96, 80, 3):
                assert np.array_equal(pixels, original[place]), "its sum is over the original's pixels"


@pytest.mark.parametrize("side", [0, 1, 15])
def test_no_section_has_more_tiles_than_it_is_worth(side):
    section = bytearray(exact.encoded(synthetic_photo(80, 96), SMALL, 2))
    header = list(exact._HEADER.unpack_from(section))
    header[5] = side
    exact._HEADER.pack_into(section, 0, *header)
    with pytest.raises(ValueError, match="another picture"):
        exact.Exact(bytes(section), SMALL)
