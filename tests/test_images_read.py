"""Reading: what is accepted, how it is turned upright, and the one line for everything else."""

import contextlib
import dataclasses
import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from irnscale.errors import InputError
from irnscale.images.inspect import describe
from irnscale.images.read import read_picture
from irnscale.images.write import FORMATS, encode_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RNG = np.random.default_rng(0)
PHOTO = np.asarray(Image.fromarray(RNG.integers(0, 256, (4, 5, 3), np.uint8)).resize((40, 24), 3))


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def photo():
    return Image.fromarray(PHOTO)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(kind, depth, row, width, height, *extra):
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for _ in range(height)))
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def exif_block(orientation=6):
    """With sizes, a maker note, GPS and, behind all, a thumbnail in a second directory."""
    exif = Image.Exif()
    exif[0x0100], exif[0x0101], exif[0x010F], exif[0x0112] = 40, 24, "Canon", orientation
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00", 0x927C: b"maker note", 0xA002: 40, 0xA003: 24}
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    block = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if block[:2] == b"II" else ">"
    first = struct.unpack_from(order + "I", block, 4)[0]
    end = first + 2 + 12 * struct.unpack_from(order + "H", block, first)[0]
    directory = len(block)
    struct.pack_into(order + "I", block, end, directory)
    thumbnail = b"\xff\xd8THUMBNAIL\xff\xd9"
    start = directory + 2 + 24 + 4
    block += struct.pack(order + "H", 2) + struct.pack(order + "HHII", 0x0201, 4, 1, start)
    block += struct.pack(order + "HHII", 0x0202, 4, 1, len(thumbnail)) + bytes(4) + thumbnail
    return bytes(block)


MODES = ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"]


def in_mode(mode):
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 65536, (24, 40), np.uint16))
    image = photo()
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(PHOTO[..., 0]))
    return image.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode):
    source = in_mode(mode)
    picture = read_picture(encoded(source, "PNG"))
    assert (picture.width, picture.height, picture.format, picture.notes) == (40, 24, "png", ())
    assert picture.depth == (16 if mode == "I;16" else 8)
    assert str(picture.pixels.dtype) == f"uint{picture.depth}"
    assert picture.gray == (mode in ("1", "L", "LA", "I;16"))
    expected = np.asarray(source if mode == "I;16" else source.convert("RGB"))
    np.testing.assert_array_equal(picture.pixels, np.dstack([expected] * 3) if mode == "I;16" else expected)
    assert (picture.alpha is not None) == mode.endswith("A")
    assert not picture.opaque_alpha
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, PHOTO[..., 0])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_opaque_alpha_is_recorded_and_dropped(mode, format):
    source = photo().convert(mode)
    picture = read_picture(encoded(source, format, **({"lossless": True} if format == "WEBP" else {})))
    if format == "WEBP":  # the encoder itself drops a plane that hides nothing
        assert picture.alpha is None
        return
    assert picture.alpha is None
    assert picture.opaque_alpha


def test_palette_with_transparency():
    source = photo().quantize(8)
    source.info["transparency"] = 3
    picture = read_picture(encoded(source, "PNG", transparency=3))
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(source) == 3)


@pytest.mark.parametrize("kind", [0, 2])
def test_transparent_colour_of_a_png(kind):
    row = bytes(range(12)) if kind == 2 else bytes(range(4))
    key = struct.pack(">HHH", 3, 4, 5) if kind == 2 else struct.pack(">H", 1)
    picture = read_picture(raw_png(kind, 8, row, 4, 2, chunk(b"tRNS", key)))
    assert picture.alpha.tolist() == [[255, 0, 255, 255]] * 2
    assert picture.gray == (kind == 0)


def test_transparent_value_of_a_16_bit_png():
    picture = read_picture(raw_png(0, 16, struct.pack(">4H", 5, 600, 7, 8), 4, 2, chunk(b"tRNS", b"\x02\x58")))
    assert picture.depth == 16
    assert picture.alpha.dtype == np.uint16
    assert picture.alpha.tolist() == [[65535, 0, 65535, 65535]] * 2


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_without_its_decoder_is_read_at_8_bits_and_says_so(kind, channels, monkeypatch):
    monkeypatch.setattr("irnscale.images.read.has_io", lambda: False)
    picture = read_picture(raw_png(kind, 16, bytes(range(8 * channels)), 4, 2))
    assert (picture.depth, picture.stored_depth) == (8, 16)
    assert picture.notes == ("16 bits per channel read at 8 bits (pip install 'irnscale[io]' for all of them)",)


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_is_read_whole(kind, channels):
    pytest.importorskip("imagecodecs")
    content = bytes(range(8 * channels))  # of both rows
    picture = read_picture(raw_png(kind, 16, content, 4, 2))
    values = np.frombuffer(content, ">u2").reshape(1, 4, channels).repeat(2, axis=0)
    assert (picture.depth, picture.notes) == (16, ())
    colour = values[..., :1] if channels == 2 else values[..., :3]
    np.testing.assert_array_equal(picture.pixels, np.broadcast_to(colour, picture.pixels.shape))
    if channels != 3:
        np.testing.assert_array_equal(picture.alpha, values[..., -1])


def test_16_bit_gray_ppm_and_tiff():
    values = RNG.integers(0, 65536, (6, 7), np.uint16)
    for format in ("PPM", "TIFF", "JPEG2000"):
        picture = read_picture(encoded(Image.fromarray(values), format))
        assert picture.depth == 16
        np.testing.assert_array_equal(picture.pixels[..., 1], values)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "told"),
    [("f4", 0, 1, False), ("f4", -3, 700, True), ("i4", 0, 65535, False), ("i4", -5, 10**6, True)],
)
def test_gray_of_32_bits(dtype, low, high, told):
    ramp = np.linspace(low, high, 48).reshape(6, 8).astype(dtype)
    picture = read_picture(encoded(Image.fromarray(ramp), "TIFF"))
    assert (picture.depth, picture.gray) == (16, True)
    assert bool(picture.notes) == told
    expected = np.linspace(0, 65535, 48).reshape(6, 8)
    assert np.abs(picture.pixels[..., 0] - expected).max() <= (1.0 if dtype == "f4" or told else 0.5 + 0.5)


def test_floats_that_are_no_numbers():
    ramp = np.array([[np.nan, 0.5], [np.inf, 1.0]], np.float32)
    assert read_picture(encoded(Image.fromarray(ramp), "TIFF")).pixels[..., 0].tolist() == [[0, 32768], [0, 65535]]


def cmyk_profile():
    """A minimal CMYK profile is a header that says so; lcms refuses it, as it does damaged ones."""
    return SRGB[:16] + b"CMYK" + SRGB[20:]


@pytest.mark.parametrize("icc", [None, SRGB, cmyk_profile(), b"junk"])
@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_without_usable_profile(icc, format):
    data = encoded(photo().convert("CMYK"), format, **({"icc_profile": icc} if icc else {}))
    picture = read_picture(data)
    assert picture.icc is None
    assert not picture.gray
    assert len(picture.notes) == 1
    assert "approximate" in picture.notes[0]
    assert np.abs(picture.pixels.astype(int) - PHOTO).mean() < 20


def test_cmyk_goes_through_its_profile(monkeypatch):
    seen = []

    def convert(image, source, target, **options):
        seen.append(image.mode)
        return Image.new(options["outputMode"], image.size, (1, 2, 3))

    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    picture = read_picture(encoded(photo().convert("CMYK"), "TIFF", icc_profile=cmyk_profile()))
    assert seen == ["CMYK"]
    assert picture.icc is None
    assert (picture.pixels == (1, 2, 3)).all()
    assert picture.notes == ("CMYK converted to sRGB through its colour profile",)


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Canon"
    options = {"lossless": True} if format == "WEBP" else {}
    source = photo().convert("RGBA")
    source.putalpha(Image.fromarray(PHOTO[..., 1]))
    source = source.convert("RGB") if format == "JPEG" else source
    data = encoded(source, format, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, expected[..., :3])
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, expected[..., 3])
    assert picture.exif is not None
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept.get(0x0112, 1) == 1
    assert kept[0x010F] == "Canon"


def test_describe_gives_the_upright_size(tmp_path):
    for format in ("PNG", "JPEG", "TIFF"):
        exif = Image.Exif()
        exif[0x0112] = 6
        path = tmp_path / "x"
        path.write_bytes(encoded(photo(), format, exif=exif, icc_profile=SRGB))
        facts = describe(path)
        assert (facts["width"], facts["height"], facts["frames"]) == (24, 40, 1)
        assert facts["icc"] == "sRGB built-in"
        assert facts["provenance"] is None


@pytest.mark.parametrize("form", ["attribute", "element"])
def test_orientation_of_xmp(form):
    value = (
        'tiff:Orientation="6"/>'
        if form == "attribute"
        else ("><tiff:Orientation>6</tiff:Orientation></rdf:Description>")
    )
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:ImageWidth="40" '
        + value
        + "</rdf:RDF></x:xmpmeta>"
    ).encode()
    picture = read_picture(encoded(photo(), "JPEG", xmp=xmp))
    assert (picture.height, picture.width) == (40, 24)
    assert b"ImageWidth" not in picture.xmp
    again = read_picture(encode_picture(picture, "jpg"))
    assert (again.height, again.width) == (40, 24)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_is_cleaned_in_place(format):
    picture = read_picture(encoded(photo(), format, exif=b"Exif\0\0" + exif_block()))
    assert picture.height == 40
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept[0x010F] == "Canon"
    assert kept[0x0112] == 1
    assert not {0x0100, 0x0101} & set(kept)
    assert kept.get_ifd(0x8769) == {0x9003: "2020:01:01 00:00:00", 0x927C: b"maker note"}
    assert kept.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0)
    assert kept.get_ifd(1) == {}
    assert b"THUMBNAIL" not in picture.exif
    # the maker note has not moved: cameras store offsets into the whole block in it
    assert picture.exif.index(b"maker note") == exif_block().index(b"maker note")


@pytest.mark.parametrize("cut", [0, 3, 8, 9, 20, 60])
def test_damaged_exif_costs_only_the_exif(cut):
    block = exif_block()[:cut] if cut else b"junk instead of a header"
    picture = read_picture(encoded(photo(), "PNG", exif=block))
    assert picture.exif is None
    assert any("EXIF" in note for note in picture.notes)


def test_flipped_bytes_in_exif_never_escape(tmp_path, capfd):
    path = tmp_path / "x.png"
    block = exif_block()
    for _ in range(200):
        broken = bytearray(block)
        broken[RNG.integers(8, len(block))] = RNG.integers(0, 256)
        path.write_bytes(encoded(Image.new("L", (2, 2)), "PNG", exif=bytes(broken)))
        assert describe(path)["width"] == 2
        picture = read_picture(path)
        for format in FORMATS:
            assert read_picture(encode_picture(picture, format)).width == 2
    assert capfd.readouterr() == ("", "")


def test_exif_behind_the_pixels():
    plain = encoded(photo(), "PNG")
    picture = read_picture(plain[:-12] + chunk(b"eXIf", exif_block()) + plain[-12:])
    assert picture.height == 40
    assert picture.exif is not None


def test_mpo_gives_its_primary_picture():
    second = Image.new("RGB", (40, 24))
    picture = read_picture(encoded(photo(), "MPO", save_all=True, append_images=[second]))
    assert picture.format == "jpg"
    assert picture.pixels.mean() > 50
    assert len(picture.notes) == 1
    assert "MPO" in picture.notes[0]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations(format):
    other = ImageOps.invert(photo())
    data = encoded(photo(), format, save_all=True, append_images=[other])
    with pytest.raises(InputError, match=r"wave: has 2 frames or pages \(add frames=first"):
        read_picture(data, "wave")
    picture = read_picture(data, frames="first")
    assert np.abs(picture.pixels.astype(int) - PHOTO).mean() < 12
    assert "only the first of 2" in picture.notes[0]


@pytest.mark.parametrize("format", ["BMP", "GIF", "PPM", "TGA", "JPEG2000", "AVIF", "QOI", "ICO", "PCX"])
def test_other_formats_are_read(format):
    picture = read_picture(encoded(photo(), format))
    assert picture.format == format.lower()
    assert picture.pixels.shape[2] == 3


def test_content_decides_not_the_name(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(photo(), "JPEG"))
    assert read_picture(path).format == "jpg"


JPEG, PNG, WEBP = (encoded(photo(), format) for format in ("JPEG", "PNG", "WEBP"))
LZW = encoded(photo(), "TIFF", compression="tiff_lzw")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
BAD = {
    "zero bytes": (b"", "file is empty (copy or download it again)"),
    "text": (b"Dear diary,\ntoday I bought a camera.\n", "is not a picture"),
    "html": (b"<!doctype html><title>404</title>", "is not a picture"),
    "zeros": (bytes(4096), "is not a picture"),
    "heic": (HEIC, "HEIC"),
    "svg": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "pdf": (b"%PDF-1.4\n", "PDF"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "jpeg header": (JPEG[:30], "(copy or download it again)"),
    "jpeg cut": (JPEG[: len(JPEG) * 2 // 3], "file is truncated (copy or download it again)"),
    "png header": (PNG[:12], "(copy or download it again)"),
    "png cut": (PNG[: len(PNG) // 2], "file is truncated (copy or download it again)"),
    "webp cut": (WEBP[: len(WEBP) // 2], "(copy or download it again)"),
    "tiff cut": (LZW[: len(LZW) // 2], "(copy or download it again)"),
    "png without pixels": (PNG[:33] + PNG[-12:], "(copy or download it again)"),
    "png bad sum": (PNG[:20] + b"\1" + PNG[21:], "(copy or download it again)"),
}


@pytest.mark.parametrize(("data", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_files_get_one_line(data, expected, tmp_path, capfd):
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    for function in (read_picture, lambda path: read_picture(path.read_bytes(), str(path))):
        with pytest.raises(InputError) as caught:
            function(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_missing_and_folder(tmp_path):
    for function in (read_picture, describe):
        with pytest.raises(InputError, match=r"no such file \(check the path"):
            function(tmp_path / "gone.png")
        with pytest.raises(InputError, match=r"is a folder \(give the files in it"):
            function(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_picture(tmp_path / ("x" * 300))
    with pytest.raises(ValueError, match="frames"):
        read_picture(PNG, frames="all")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
def test_any_flipped_byte_gives_a_picture_or_one_line(format, capfd):
    options = {"compression": "tiff_lzw"} if format == "TIFF" else {}
    data = encoded(Image.fromarray(PHOTO[:9, :9]), format, **options)
    for position in range(0, len(data), max(1, len(data) // 60)):
        broken = data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]
        with contextlib.suppress(InputError):  # anything else fails; that it is one line, the class ensures
            read_picture(broken, max_pixels=10**6)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [(100_000, 100_000), (41, 24)])
def test_bombs_are_refused_before_decoding(size):
    data = raw_png(2, 8, b"", *(size[0], 1))[:16] + struct.pack(">II", *size) + b"\x08\x02\0\0\0"
    data += struct.pack(">I", zlib.crc32(data[12:])) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match=r"more than the limit of 960 pixels \(raise it with `max_pixels`"):
        read_picture(data, max_pixels=960)
    assert read_picture(PNG, max_pixels=960).width == 40


def test_pillows_own_limit_is_lifted_and_restored(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_picture(PNG).width == 40
    assert Image.MAX_IMAGE_PIXELS == 10


def test_threads_leave_limits_and_warning_filters_as_they_were():
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    failures = []

    def work():
        for data in (PNG, JPEG, PNG[:200], WEBP) * 10:
            try:
                read_picture(data)
            except InputError:
                pass
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert limit == Image.MAX_IMAGE_PIXELS
    assert warnings.filters == filters


def test_camera_raw_is_not_mistaken_for_its_thumbnail():
    for tags in ({50706: b"\1\4\0\0"}, {254: 1}):
        with pytest.raises(InputError, match=r"camera raw file \(develop"):
            read_picture(encoded(photo(), "TIFF", tiffinfo=tags))


def test_large_profile_in_a_png():
    profile = SRGB + RNG.bytes(2**21)
    assert read_picture(encoded(photo(), "PNG", icc_profile=profile)).icc == profile


def test_text_bomb_in_a_png():
    bomb = chunk(b"zTXt", b"irnscale\0\0" + zlib.compress(bytes(2**25)))
    with pytest.raises(InputError, match="longer than 16 MiB"):
        read_picture(PNG[:33] + bomb + PNG[33:])
    late = read_picture(PNG[:-12] + chunk(b"zTXt", b"irnscale\0\0" + zlib.compress(bytes(2**23))) + PNG[-12:])
    assert late.record is None


def test_unrelated_texts_are_not_carried():
    info = PngImagePlugin.PngInfo()
    info.add_text("irnscale", "old")
    picture = read_picture(encoded(photo(), "PNG", pnginfo=info))
    assert "irnscale record" in picture.notes[0]
    assert b"old" not in encode_picture(picture, "png")


def test_with_pixels_checks():
    picture = read_picture(PNG)
    wide = picture.with_pixels(np.zeros((2, 3, 3), np.uint16), gray=True)
    assert (wide.depth, wide.height, wide.width, wide.gray) == (16, 2, 3, True)
    for pixels, alpha in (
        (np.zeros((2, 3), np.uint8), None),
        (np.zeros((2, 3, 3), np.float32), None),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2), np.uint8)),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint16)),
    ):
        with pytest.raises(ValueError, match=r"."):
            picture.with_pixels(pixels, alpha)
    with pytest.raises(dataclasses.FrozenInstanceError):
        picture.depth = 16


def test_importing_does_not_import_torch():
    code = (
        "import sys, irnscale.images.read, irnscale.images.write, irnscale.images.inspect, "
        "irnscale.images.padding, irnscale.images.alpha; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
