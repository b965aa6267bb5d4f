"""The coded layer itself: digits, cells, tiles, chunks, codecs, and how it is found in pixels."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import synthetic_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from irnscale.detail import attached, av1, cells, chunk, codec
from irnscale.detail import pixels as layers
from irnscale.detail.tiles import grid, side_for
from irnscale.images.record import Provenance

COMMON = chunk.Common(codec.WEBP, 0, 4, (1, 2), 256, "0123456789ab")


@given(st.binary(max_size=60), st.integers(1, 3), st.integers(0, 20), st.integers(0, 60))
def test_digits_carry_any_bytes(data, bits, first, length):
    digits = cells.bytes_to_digits(data, bits)
    assert digits.max(initial=0) < 1 << bits
    assert cells.digits_to_bytes(digits, bits, 0, len(data)) == data
    part = cells.digits_to_bytes(digits, bits, first, first + length)
    assert part[: max(0, len(data) - first)] == data[first : first + length]


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_cells_hold_their_values(bits, depth):
    fine = np.arange(65536, dtype=np.uint16)
    index = cells.cells_of(fine, bits, depth)
    assert index.max() == (1 << (depth - bits)) - 1
    step = 257 if depth == 8 else 1
    levels = np.rint(fine / step)
    assert np.array_equal(index, np.floor((fine / step + 0.5) / 2**bits).clip(0, 2 ** (depth - bits) - 1))
    samples = cells.joined(index, cells.nearest_digits(fine, index, bits, depth), bits)
    assert np.array_equal(samples, levels)  # nothing is lost where nothing is carried
    middle = cells.centres(index, bits, depth).astype(float) / step
    assert np.abs(middle - (index.astype(float) * 2**bits + (2**bits - 1) / 2)).max() < 0.51 / step
    assert np.array_equal(cells.split(samples, bits)[0], index)


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([16, 32, 256]))
@settings(max_examples=50)
def test_tiles_cover_the_picture_once(width, height, side):
    seen = np.zeros((height, width), int)
    for place, tile in enumerate(grid(width, height, side)):
        assert tile.index == place
        assert 0 < tile.right - tile.left <= side
        assert 0 < tile.bottom - tile.top <= side
        seen[tile.small] += 1
    assert (seen == 1).all()


def test_the_container_is_what_pillow_writes():
    if not codec.has(codec.AV1):
        pytest.skip("this Pillow has no AVIF")
    residual = (synthetic_photo(37, 51).astype(np.int16) - 128) // 2
    stream = codec.encode(residual, codec.AV1, 60)
    whole = av1.contained(stream, 51, 37)
    with Image.open(io.BytesIO(whole)) as image:
        assert (image.format, image.size) == ("AVIF", (51, 37))
    assert av1.bare(whole) == stream
    back = codec.decode(stream, codec.AV1, 51, 37)
    assert np.abs(back - residual).mean() < 6
    assert codec.decode(stream, codec.AV1, 50, 37) is None
    assert av1.frame_size(stream) == (51, 37)
    assert codec.decode(stream[:-20], codec.AV1, 51, 37) is None
    assert codec.decode(b"junk", codec.AV1, 51, 37) is None


@pytest.mark.parametrize("kind", [codec.AV1, codec.WEBP])
@pytest.mark.parametrize("room", [10, 150, 600, 3000])
def test_the_room_is_filled_and_never_exceeded(kind, room):
    if not codec.has(kind):
        pytest.skip("this Pillow has not this codec")
    noise = np.random.default_rng(0).normal(0, 5, (96, 96, 3)).round().astype(np.int16)
    stream = codec.encode_within(noise, kind, room)
    if room < 24:
        assert stream is None
        return
    assert stream is None or len(stream) <= room
    if room >= 600:
        assert len(stream) > 0.6 * room


def _carrier(seed: int = 0, bits: int = 2, side: int = 32):
    """(fine, samples, payloads) of a picture of six tiles."""
    fine = synthetic_photo(50, 90, seed).astype(np.uint16) * 257
    common = replace(COMMON, side=side)
    tiles = tuple(grid(90, 50, side))
    rooms = [cells.capacity(t.area * 3, bits) - chunk.SIZE for t in tiles]
    random = np.random.default_rng(seed)
    payloads = [random.bytes(int(random.integers(1, room))) for room in rooms]
    return fine, layers.hidden(fine, bits, 8, common, payloads), payloads


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_a_layer_is_found_without_being_told_of_it(bits):
    fine, samples, payloads = _carrier(bits=bits)
    layer = layers.found(samples)
    assert (layer.bits, layer.common) == (bits, replace(COMMON, side=32))
    assert list(layer.payloads.values()) == payloads
    assert np.abs(samples.astype(int) - fine / 257).max() <= 2**bits - 0.5
    assert layers.found(layers.without(samples, bits)) is None
    assert layers.found(synthetic_photo(50, 90)) is None


def test_an_edit_costs_its_tile_and_no_other():
    _, samples, payloads = _carrier()
    for tile in grid(90, 50, 32):
        edited = samples.copy()
        edited[tile.top + 3, tile.left + 3, 1] ^= 64  # an upper digit: what is seen
        layer = layers.found(edited)
        assert tile.index not in layer.payloads
        assert len(layer.payloads) == len(payloads) - 1
    assert layers.found(samples[:, 1:]) is None
    assert layers.found(samples[::-1]) is None


@pytest.mark.parametrize("attach", [False, True])
@pytest.mark.parametrize("had", [False, True])
def test_a_tile_that_hides_nothing_is_the_same_with_an_alpha_and_without(attach, had):
    """Which an eraser brings to a whole picture by one pixel, and a flattening takes from it."""
    fine, samples, payloads = _carrier()
    before = np.full(samples.shape[:2], 255, np.uint8) if had else None
    if had:
        before[0, 0] = 100  # in the first tile; an alpha that hides nothing is stored as none
    if attach:
        section = attached.lossy_section(replace(COMMON, side=32), samples, payloads, before)
    else:
        samples = layers.hidden(fine, 2, 8, replace(COMMON, side=32), payloads, before)
    after = None
    if not had:
        after = np.full(samples.shape[:2], 255, np.uint8)
        after[0, 0] = 0
    layer = attached.lossy_layer(section, samples, after) if attach else layers.found(samples, after)
    assert list(layer.payloads) == list(range(1, len(layer.tiles)))


def test_tiles_cannot_be_exchanged():
    _, samples, _ = _carrier()
    first, second = list(grid(90, 50, 32))[:2]
    moved = samples.copy()
    moved[first.small], moved[second.small] = samples[second.small], samples[first.small]
    assert {first.index, second.index}.isdisjoint(layers.found(moved).payloads)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_no_noise_is_a_layer_and_none_breaks_it(seed):
    random = np.random.default_rng(seed)
    _, samples, _ = _carrier()
    for _ in range(5):
        y, x, c = (int(random.integers(0, n)) for n in samples.shape)
        samples[y, x, c] = random.integers(0, 256)
    layer = layers.found(samples)
    assert layer is None or len(layer.payloads) <= 6
    assert layers.found(random.integers(0, 256, (40, 40, 3)).astype(np.uint8)) is None


def test_a_section_of_tiles_fits_only_its_picture():
    _, samples, payloads = _carrier()
    common = replace(COMMON, side=32)
    section = attached.lossy_section(common, samples, payloads)
    layer = attached.lossy_layer(section, samples)
    assert (layer.bits, layer.common, list(layer.payloads.values())) == (0, common, payloads)
    edited = samples.copy()
    edited[0, 0, 0] ^= 1
    assert 0 not in attached.lossy_layer(section, edited).payloads
    block = attached.block({attached.LOSSY: section})
    assert attached.sections(block) == {attached.LOSSY: section}
    for cut in range(0, len(block), 50):
        part = attached.sections(block[:cut]).get(attached.LOSSY, b"")
        attached.lossy_layer(part, samples)


def test_sides_follow_the_scale():
    assert [side_for(scale) for scale in (2, 4, 8, 16, 64)] == [512, 256, 128, 64, 16]


def test_records_of_before_are_read():
    fields = {"kind": "down", "version": "0.1.0", "model": "irn-x2", "digest": "0" * 12, "scale": 2, "width": 4}
    fields |= {"height": 4, "lr_width": 2, "lr_height": 2, "padding": [0, 0], "jpeg_resistant": False}
    fields |= {"original_format": "png", "source_digest": "0" * 64, "settings_digest": "0" * 16, "crc": 1}
    old = json.dumps({"schema": 1, **fields, "opaque_alpha": False, "gray": False})
    assert Provenance.from_json(old).detail is None
    for spoilt in ({"bits": "1"}, [], {"bits": 1}, 7):
        with pytest.raises(ValueError, match="detail"):
            Provenance.from_json(json.dumps(json.loads(old) | {"detail": spoilt}))
