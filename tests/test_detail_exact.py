"""What is stored beside the pixels: the lossless layer, and detail that is attached."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace

import numpy as np
import pytest
from commandline import Run, decibel, picture, pixels, runner
from conftest import synthetic_photo
from PIL import Image

from irnscale.detail import codec, exact
from irnscale.engine.exactly import exact_layer
from irnscale.images import segments
from irnscale.images.provenance import read_provenance
from irnscale.images.read import read_picture


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(capfdbinary, monkeypatch)


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


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("had", [False, True])
def test_an_alpha_that_hides_elsewhere_costs_no_other_tile(planes, had, monkeypatch):
    monkeypatch.setattr(exact, "LARGE_SIDE", 64)
    original = synthetic_photo(80, 104)[..., :planes]
    small = np.ascontiguousarray(original[::4, ::4])
    alpha = np.full(small.shape[:2], 255, np.uint8)
    alpha[0, 0] = 0
    section = exact.encoded(original, np.dstack([small, alpha]) if had else small, 4)
    assert exact.Exact(section, small, alpha).complete == had
    assert exact.Exact(section, small).complete != had
    places = [place for place, _ in exact.Exact(section, small, None if had else alpha).tiles()]
    assert len(places) == 3
    assert all(place[0].start or place[1].start for place in places), "all but the first"


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


# ---- through the command line


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
