"""The coded layer: digits, tiles, chunks, codecs, and pictures that carry it through the command line."""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from commandline import Run, decibel, picture, pixels, runner
from conftest import synthetic_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from irnscale.detail import attached, av1, cells, chunk, codec, exact
from irnscale.detail import pixels as layers
from irnscale.detail.finding import layers_of
from irnscale.detail.tiles import grid, side_for
from irnscale.engine.exactly import exact_layer
from irnscale.images import segments
from irnscale.images.provenance import read_provenance
from irnscale.images.read import read_picture
from irnscale.images.record import Provenance

COMMON = chunk.Common(codec.WEBP, 0, 4, (1, 2), 256, "0123456789ab")


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(capfdbinary, monkeypatch)


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


@pytest.mark.parametrize("scale", [2, 3, 4, 16])
def test_integer_bicubic_is_bicubic(scale):
    from torch import from_numpy

    from irnscale.images.bicubic import bicubic_up

    samples = synthetic_photo(19, 23)
    assert (exact.weights(scale).sum(axis=1) == 1 << 14).all()
    ours = exact.enlarged(samples, scale, 255)
    theirs = bicubic_up(from_numpy(samples).permute(2, 0, 1)[None].double() / 255, scale)[0].permute(1, 2, 0) * 255
    inside = slice(2 * scale, -2 * scale)
    assert np.abs(ours - theirs.clamp(0, 255).numpy())[inside, inside].max() < 0.51


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_lossless_layer_gives_every_bit_back(planes, dtype, monkeypatch):
    monkeypatch.setattr(exact, "LARGE_SIDE", 64)
    random = np.random.default_rng(0)
    original = random.integers(0, np.iinfo(dtype).max, (81, 103, planes), endpoint=True).astype(dtype)
    original[:40] = np.repeat(synthetic_photo(40, 103), 2, axis=2)[..., :planes].astype(dtype) * dtype(
        np.iinfo(dtype).max // 255
    )
    small = np.ascontiguousarray(original[::4, ::4])
    section = exact.encoded(original, small, 4)
    layer = exact.Exact(section, small)
    back = np.zeros_like(original)
    for place, part in layer.tiles():
        back[place] = part
    assert layer.complete
    assert np.array_equal(back, original)
    changed = small.copy()
    changed[0, 0, 0] ^= 1
    assert not exact.Exact(section, changed).complete
    for cut in range(30, len(section) - 1, 97):
        assert not exact.Exact(section[:cut], small).complete
    with pytest.raises(ValueError, match="short"):
        exact.Exact(section[:9], small)


@pytest.mark.parametrize("format", ["jpg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("length", [5, 70_001, 200_000])
def test_a_block_travels_in_every_format(format, length):
    if format == "avif" and not codec.has(codec.AV1):
        pytest.skip("this Pillow has no AVIF")
    file = io.BytesIO()
    photo = Image.fromarray(synthetic_photo(30, 41))
    photo.save(file, {"jpg": "JPEG"}.get(format, format.upper()), quality=80)
    plain = file.getvalue()
    block = np.random.default_rng(1).bytes(length)
    assert segments.attachment(plain) is None
    data = segments.attached(plain, block, format)
    assert segments.attachment(data) == block
    with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(plain)) as before:
        assert image.size == (41, 30)
        assert np.array_equal(np.asarray(image), np.asarray(before))
    clean = segments.detached(data)
    assert block not in clean
    with Image.open(io.BytesIO(clean)) as image, Image.open(io.BytesIO(plain)) as before:
        assert np.array_equal(np.asarray(image), np.asarray(before))
    for cut in range(0, len(data), max(1, len(data) // 40)):
        segments.attachment(data[:cut])  # never raises


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


# ---- through the command line


def _luma_gain(run: Run, tmp_path, *options: object) -> tuple[float, float]:
    """dB of a photograph's round trip with the detail and without it."""
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2, "-o", "s.png", *options).code == 0
    assert run("up", "s.png", "-o", "with.png").code == 0
    assert run("up", "s.png", "-o", "without.png", "--detail", "none").code == 0
    return tuple(decibel(pixels(source), pixels(tmp_path / name)) for name in ("with.png", "without.png"))


def test_detail_is_the_default_and_brings_decibels(run, tmp_path):
    with_it, without = _luma_gain(run, tmp_path)
    assert with_it > without + 0.5
    record = read_provenance(tmp_path / "s.png")
    assert record.detail["bits"] == 1
    assert "detail: " in run("info", "s.png").text
    assert run("up", "s.png", "-o", "again.png").lines == []


def test_detail_none_is_the_file_of_before(run, tmp_path):
    source = picture(tmp_path / "p.png", 30, 20)
    assert run("down", source, "-s", 2, "-o", "s.png", "--detail", "none").code == 0
    with Image.open(tmp_path / "s.png") as image:
        image.load()
        assert "detail" not in json.loads(image.text["irnscale"])


def test_pixels_alone_are_enough(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2).code == 0
    with Image.open(tmp_path / "p_down2x.png") as image:
        Image.fromarray(np.asarray(image)).save(tmp_path / "bare.png")
        Image.fromarray(np.asarray(image)).save(tmp_path / "bare.webp", lossless=True)
        Image.fromarray(np.asarray(image)).save(tmp_path / "bare.tiff")
    assert run("up", "p_down2x.png", "-o", "whole.png").code == 0
    for name in ("bare.png", "bare.webp", "bare.tiff"):
        result = run("up", name, "-o", "back.png", "--overwrite")
        assert (result.code, result.lines) == (0, [])
        assert np.array_equal(pixels(tmp_path / "back.png"), pixels(tmp_path / "whole.png"))


@pytest.mark.parametrize("options", [["--detail", "none"], ["--temperature", "0.01"]])
def test_without_detail_the_digits_are_no_noise(run, tmp_path, options):
    """What the network makes of the samples without their digits is nearer than what it makes of all of them."""
    source = picture(tmp_path / "p.png", 90, 72)
    assert run("down", source, "-s", 4, "--detail", 3).code == 0
    assert run("up", "p_down4x.png", "-o", "alone.png", *options).code == 0
    ignored = ["--ignore-provenance", "-s", 4, "--size", "90x72"] + options * (options[0] == "--temperature")
    assert run("up", "p_down4x.png", "-o", "noisy.png", *ignored).code == 0
    truth, alone, noisy = (pixels(tmp_path / name) for name in ("p.png", "alone.png", "noisy.png"))
    assert decibel(truth, alone) > decibel(truth, noisy)


def test_detail_has_columns_of_its_own(run, tmp_path):
    (tmp_path / "set").mkdir()
    picture(tmp_path / "set/p.png", 48, 40)
    common = ["evaluate", "--data", "set", "-m", "irn-x2", "-s", 2, "--no-baselines", "--no-cache", "--json"]
    result = run(*common, "--detail", "1,exact", "--attach", "40", "--jpeg", "60")
    assert (result.code, result.lines) == (0, [])
    found = {row["codec"]: row for row in map(json.loads, result.text.splitlines())}
    assert set(found) == {
        "png", "jpg q60 4:2:0", "png, 1 bit", "png, 1 bit + exact", "jpg q60 4:2:0, attached q40"
    }  # fmt: skip
    assert found["png"]["detail_psnr_y"] is None
    assert found["png, 1 bit"]["detail_psnr_y"] > found["png"]["psnr_y"] > found["png, 1 bit"]["psnr_y"]
    assert found["png, 1 bit + exact"]["detail_psnr_y"] == 100
    lossy = found["jpg q60 4:2:0, attached q40"]
    assert lossy["psnr_y"] == found["jpg q60 4:2:0"]["psnr_y"] < lossy["detail_psnr_y"]
    run("down", "set/p.png", "-s", 2, "-o", "small.png")
    assert abs(found["png, 1 bit"]["bytes"] - (tmp_path / "small.png").stat().st_size) < 20, "the digests differ"
    for bad in (["--detail", "4"], ["--attach", "lots"]):
        assert run(*common, *bad).code == 2


@pytest.mark.parametrize("scale", [2, 4])
def test_another_precision_reads_it_as_well(run, tmp_path, scale):
    """The base need not be the same to the bit: bfloat16 down and float32 up cost under 0.05 dB."""
    with Image.open(resources.files("irnscale") / "assets/astronaut.png") as image:
        image.crop((140, 60, 300, 220)).save(tmp_path / "p.png")
    scores = []
    for precision in ("float32", "bfloat16"):
        assert run("down", "p.png", "-s", scale, "-o", "s.png", "--overwrite", "--precision", precision).code == 0
        assert run("up", "s.png", "-o", "back.png", "--overwrite", "--precision", "float32").code == 0
        scores.append(decibel(pixels(tmp_path / "p.png"), pixels(tmp_path / "back.png")))
    assert scores[1] > scores[0] - 0.05


def test_an_edited_picture_does_not_bring_the_old_detail_back(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2).code == 0
    with Image.open(tmp_path / "p_down2x.png") as image:
        image.load()
        text = PngImagePlugin.PngInfo()
        text.add_itxt("irnscale", image.text["irnscale"])
        edited = image.copy()
        edited.paste((90, 90, 90), (5, 5, 20, 15))
        edited.save(tmp_path / "e.png", pnginfo=text)
    result = run("up", "e.png", "-o", "back.png")
    assert result.code == 0
    assert any("without" in line or "alone" in line for line in result.warnings)
    gray = pixels(tmp_path / "back.png")[14:26, 14:36].astype(int)
    assert np.abs(gray - 90).max() < 40


@pytest.mark.parametrize("options", [["--detail", "2"], ["--detail", "none", "--attach", "60"]])
def test_what_was_made_transparent_does_not_bring_the_old_detail_back(run, tmp_path, options):
    """Though the colours beneath are the same: that is what an eraser does."""
    colour = synthetic_photo(47, 61)
    alpha = np.full((47, 61, 1), 255, np.uint8)
    alpha[:3, :3] = 100
    Image.fromarray(np.concatenate([colour, alpha], axis=2)).save(tmp_path / "p.png")
    assert run("down", "p.png", "-s", 2, "-o", "s.png", *options).code == 0
    assert run("up", "s.png", "-o", "whole.png").lines == []
    data = (tmp_path / "s.png").read_bytes()
    picture_ = read_picture(data)
    assert picture_.alpha is not None
    picture_.alpha[8:16, 8:20] = 0
    found = layers_of(picture_, picture_.record)
    assert not any(layer.payloads for layer in found)


def test_an_alpha_that_becomes_opaque_is_no_change(run, tmp_path):
    """One pixel in a hundred times as many: the small picture hides nothing, and its reader sees no alpha."""
    pixels_ = np.concatenate([synthetic_photo(40, 44), np.full((40, 44, 1), 255, np.uint8)], axis=2)
    pixels_[20, 20, 3] = 254
    Image.fromarray(pixels_).save(tmp_path / "p.png")
    assert run("down", "p.png", "-s", 4, "-o", "s.png").code == 0
    assert run("up", "s.png", "-o", "back.png").lines == []


@pytest.mark.parametrize("format", ["png", "jpg", "tiff"])
def test_a_damaged_lossless_layer_is_told(run, tmp_path, format):
    source = picture(tmp_path / "p.png", 40, 30)
    small = tmp_path / f"s.{format}"
    assert run("down", source, "-s", 2, "--detail", "exact", "-o", small).code == 0
    read = read_picture(small.read_bytes())
    layer = exact_layer(read)
    assert layer.complete
    for at in range(len(read.attachment) - 200, len(read.attachment), 17):
        damaged = bytearray(read.attachment)
        damaged[at] ^= 16
        again = exact_layer(replace(read, attachment=bytes(damaged)))
        assert again is None or not again.complete
    data = small.read_bytes().replace(read.attachment[-40:], bytes(40))
    if format == "png":  # its chunks have check sums of their own
        place = data.rindex(b"irND")
        length = int.from_bytes(data[place - 4 : place], "big")
        crc = zlib.crc32(data[place : place + 4 + length]).to_bytes(4, "big")
        data = data[: place + 4 + length] + crc + data[place + 8 + length :]
    (tmp_path / f"damaged.{format}").write_bytes(data)
    result = run("up", f"damaged.{format}", "-o", "back.png")
    assert result.code == 0
    assert any("its lossless layer is gone or damaged" in line for line in result.lines), result.lines


def test_exact_of_16_bits_says_what_is_needed(run, tmp_path):
    Image.fromarray(deep := synthetic_photo(30, 40)[..., 0].astype(np.uint16) * 250 + 3).save(tmp_path / "g.png")
    result = run("down", "g.png", "-s", 2, "--detail", "exact", "--gray", "keep", "-o", "s.png")
    assert any("`up` gives all of them back with --depth 16" in line for line in result.lines)
    (line,) = run("up", "s.png", "-o", "eight.png").lines
    assert "--depth 16 keeps all" in line
    assert run("up", "s.png", "-o", "deep.tiff", "--depth", 16).lines == []
    with Image.open(tmp_path / "deep.tiff") as image:
        assert np.array_equal(np.asarray(image), deep)


def test_too_small_an_amount_is_told(run, tmp_path):
    source = picture(tmp_path / "p.png", 40, 30)
    result = run("down", source, "-s", 2, "--detail", "none", "--attach", "10B", "-o", "s.png")
    assert result.code == 0
    assert any("nothing is attached" in line for line in result.lines)
    assert read_picture((tmp_path / "s.png").read_bytes()).attachment is None
    assert read_provenance(tmp_path / "s.png").detail is None


def test_the_network_alone_is_the_same_however_it_is_stored(run, tmp_path):
    """What `info` says of it does not depend on what else is there."""
    source = picture(tmp_path / "p.png", 61, 47)
    alone = []
    for name, options in (("a.png", ["--detail", "2"]), ("b.png", ["--detail", "2", "--attach", "60"])):
        assert run("down", source, "-s", 2, "-o", name, *options).code == 0
        alone.append(read_provenance(tmp_path / name).detail["psnr"][1])
    assert alone[0] == alone[1]
    text = run("info", "b.png").text
    assert "in 2 bits of each sample and in a block of" in text
    assert any("detail: 1 of 1 tiles" in line for line in run("up", "b.png", "-v", "-o", "back.png").lines)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_gray_and_alpha_carry_detail(run, tmp_path, mode):
    rgb = synthetic_photo(47, 61)
    image = Image.fromarray(rgb).convert(mode)
    if mode != "L":
        image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 61).astype(np.uint8), (47, 1))))
    image.save(tmp_path / "p.png")
    assert run("down", "p.png", "-s", 2, "-o", "s.png").code == 0
    assert read_provenance(tmp_path / "s.png").detail is not None
    assert run("up", "s.png", "-o", "with.png").lines == []
    assert run("up", "s.png", "-o", "without.png", "--detail", "none").code == 0
    visible = np.asarray(image.getchannel("A")) > 0 if mode != "L" else np.ones((47, 61), bool)
    original = np.asarray(image.convert("RGB")).astype(float)
    errors = []
    for name in ("with.png", "without.png"):
        with Image.open(tmp_path / name) as back:
            assert back.mode == mode
            errors.append(np.square(np.asarray(back.convert("RGB")) - original)[visible].mean())
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("format", ["png", "jpg", "webp"])
def test_exact_is_exact(run, tmp_path, mode, format):
    if (mode, format) == ("RGBA", "jpg"):
        return
    image = Image.fromarray(synthetic_photo(35, 53)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.tile(np.arange(53, dtype=np.uint8) * 4, (35, 1))))
    image.save(tmp_path / "p.png")
    assert run("down", "p.png", "-s", 2, "-o", f"s.{format}", "--detail", "exact").code == 0
    result = run("up", f"s.{format}", "-o", "back.png")
    assert (result.code, result.lines) == (0, [])
    with Image.open(tmp_path / "back.png") as back:
        assert back.mode == mode
        assert np.array_equal(np.asarray(back), np.asarray(image))


def test_attached_to_a_jpeg(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2, "-o", "s.jpg", "-q", 60, "--attach", "3K").code == 0
    assert run("up", "s.jpg", "-o", "with.png").lines == []
    assert run("up", "s.jpg", "-o", "without.png", "--detail", "none").code == 0
    with_it, without = (decibel(pixels(source), pixels(tmp_path / name)) for name in ("with.png", "without.png"))
    assert with_it > without + 3
    assert (tmp_path / "s.jpg").stat().st_size < 3 * 2**10 + 3000
    assert run("strip", "s.jpg", "-o", "t.jpg").code == 0
    assert segments.attachment((tmp_path / "t.jpg").read_bytes()) is None
    assert np.array_equal(pixels(tmp_path / "t.jpg"), pixels(tmp_path / "s.jpg"))
    assert run("up", "t.jpg", "-o", "after.png").code == 0
    assert np.array_equal(pixels(tmp_path / "after.png"), pixels(tmp_path / "without.png"))


def test_strip_removes_what_is_hidden(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2, "-o", "s.png").code == 0
    assert run("strip", "s.png").code == 0
    small, clean = pixels(tmp_path / "s.png"), pixels(tmp_path / "s_stripped.png")
    assert set(np.unique(clean & 1)) == {1}
    assert np.array_equal(small >> 1, clean >> 1)
    assert read_provenance(tmp_path / "s_stripped.png").detail is None
    assert run("up", "s_stripped.png", "-o", "back.png").lines == []
    again = run("strip", "s_stripped.png", "-o", "twice.png")
    assert (again.code, len(again.lines)) == (0, 1)
    assert run("strip", "missing.png").code == 1
    assert run("strip", "s.png").code == 5


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--detail", "2", "-f", "jpg"), 2),
        (("--attach", "0.5"), 2),
        (("--attach", "200"), 2),
        (("--attach", "much"), 2),
        (("--detail", "4"), 2),
    ],
)
def test_what_cannot_be_is_refused(run, tmp_path, options, code):
    picture(tmp_path / "p.png", 20, 20)
    result = run("down", "p.png", "-s", 2, *options)
    assert result.code == code
    assert not list(tmp_path.glob("p_down*"))


def test_a_pillow_without_the_codec(run, tmp_path, monkeypatch):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2, "-o", "s.png").code == 0
    monkeypatch.setattr(codec, "has", lambda kind: False)
    result = run("up", "s.png", "-o", "b.png")
    assert result.code == 1
    assert "--detail none" in result.lines[-1]
    assert run("up", "s.png", "-o", "b.png", "--detail", "none").code == 0
    monkeypatch.setattr(codec, "available", lambda: codec.WEBP)
    monkeypatch.undo()


def test_webp_serves_where_there_is_no_avif(run, tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "available", lambda: codec.WEBP)
    with_it, without = _luma_gain(run, tmp_path, "--detail", "2")
    assert read_provenance(tmp_path / "s.png").detail["codec"] == "WebP"
    assert with_it > without


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


@pytest.mark.parametrize(
    ("scale", "mode", "options"),
    [
        (2, "RGB", []),
        (2, "L", ["--detail", "none"]),
        (4, "RGB", ["-f", "jpg", "-q", "80"]),
        (2, "RGBA", ["--depth", "16", "--detail", "none"]),
    ],
)
def test_effort_restores_better(run, tmp_path, scale, mode, options):
    """Also across the borders of the parts that are optimised one by one, of which this picture has two."""
    image = Image.fromarray(synthetic_photo(40, 70 * scale)).convert(mode)
    image.save(tmp_path / "p.png")
    common = ["down", "p.png", "-s", scale, "--overwrite", *options]
    name = "p_down{}x.{}".format(scale, "jpg" if "jpg" in options else "png")
    scores = []
    for effort in (0, 3):
        assert run(*common, "--effort", effort).code == 0
        assert run("up", name, "-o", "back.png", "--overwrite", "--detail", "none").code == 0
        scores.append(decibel(*(np.asarray(Image.open(tmp_path / f).convert("RGB")) for f in ("p.png", "back.png"))))
    assert scores[1] > scores[0] + 0.05
    assert run(*common, "--effort", "-1").code == 2


@pytest.mark.parametrize(
    ("mode", "options"),
    [("L", []), ("L", ["--detail", "none"]), ("LA", []), ("L", ["--detail", "exact"]), ("L", ["--attach", "50"])],
)
def test_gray_in_colour(run, tmp_path, mode, options):
    """Three channels hide more than one, and gray comes out."""
    with Image.open(resources.files("irnscale") / "assets/astronaut.png") as image:
        gray = image.crop((180, 100, 276, 180)).convert(mode)
    if mode == "LA":
        gray.putalpha(Image.linear_gradient("L").resize(gray.size))
    gray.save(tmp_path / "p.png")
    scores = []
    for how in ("keep", "color"):
        result = run("down", "p.png", "-s", 2, "-o", "s.png", "--overwrite", "--gray", how, *options)
        assert (result.code, len(result.lines)) == (0, how == "keep")
        with Image.open(tmp_path / "s.png") as small:
            assert small.mode == (mode if how == "keep" else "RGB" + mode[1:])
        result = run("up", "s.png", "-o", "back.png", "--overwrite")
        assert (result.code, result.lines) == (0, [])
        with Image.open(tmp_path / "back.png") as back:
            assert (back.mode, back.size) == (mode, gray.size)
            error = (np.asarray(back, float) - np.asarray(gray, float)) ** 2
            scores.append(10 * np.log10(255**2 / max(1e-9, error.mean())))
    assert scores[1] > scores[0] + 2 or options == ["--detail", "exact"]
    if "exact" in options:
        assert min(scores) > 99
