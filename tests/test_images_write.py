"""Writing: pixels and metadata through all formats, refusals, and files whole or not at all."""

import dataclasses
import errno
import io
import json
import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from irnscale.errors import OutputError, UsageError
from irnscale.images.atomic import check_writable
from irnscale.images.inspect import describe
from irnscale.images.picture import Picture
from irnscale.images.read import read_picture
from irnscale.images.record import Provenance
from irnscale.images.write import (
    FORMATS,
    check_format_limits,
    encode_picture,
    encoding_notes,
    format_from_name,
    is_lossy,
    write_bytes_atomic,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = ("png", "webp", "tiff")
RNG = np.random.default_rng(0)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/png"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def exif():
    block = Image.Exif()
    block[0x010F], block[0x0112], block[0x0106] = "Canon", 1, 2  # 0x0106: some phones describe the layout
    block[0x8769] = {0x9003: "2020:01:01 00:00:00", 0x829A: (1, 100)}
    block[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    block[0x013B] = "José".encode()
    return block.tobytes().removeprefix(b"Exif\0\0")


def picture(shape=(24, 40), depth=8, gray=False, alpha=False, **metadata):
    top, dtype = 2**depth, f"uint{depth}"
    pixels = RNG.integers(0, top, (*shape, 3), dtype)
    if gray:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    plane = RNG.integers(0, top, shape, dtype) if alpha else None
    made = Picture(pixels, plane, gray, False, depth, None, None, None, "png", "0" * 64)
    return dataclasses.replace(made, **metadata)


@pytest.mark.parametrize("format", LOSSLESS)
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("shape", [(24, 40), (1, 1), (1, 7), (300, 2)])
def test_lossless_formats_keep_every_pixel(format, gray, alpha, shape):
    source = picture(shape, gray=gray, alpha=alpha)
    back = read_picture(encode_picture(source, format))
    np.testing.assert_array_equal(back.pixels, source.pixels)
    assert back.gray == (gray and format != "webp")
    if alpha:
        np.testing.assert_array_equal(back.alpha, source.alpha)
    else:
        assert back.alpha is None
        assert not back.opaque_alpha


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_16_bit_gray_is_kept(format):
    source = picture(depth=16, gray=True)
    assert encoding_notes(source, format) == ()
    back = read_picture(encode_picture(source, format))
    assert back.depth == 16
    np.testing.assert_array_equal(back.pixels, source.pixels)


@pytest.mark.parametrize("format", FORMATS)
def test_16_bit_colour_is_rounded_to_nearest_where_it_does_not_fit(format, monkeypatch):
    monkeypatch.setattr("irnscale.images.write.has_io", lambda: False)
    source = picture(depth=16)
    back = read_picture(encode_picture(source, format))
    assert bool(encoding_notes(source, format)) == (format != "tiff")
    if format in ("png", "webp"):
        np.testing.assert_array_equal(back.pixels, np.rint(source.pixels / 257).astype(np.uint8))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_16_bits_stay_whole(format, alpha, gray):
    pytest.importorskip("imagecodecs")
    source = dataclasses.replace(picture(depth=16, alpha=alpha, gray=gray), icc=SRGB, exif=exif(), xmp=XMP)
    assert encoding_notes(source, format) == ()
    back = read_picture(encode_picture(source, format))
    assert (back.depth, back.stored_depth, back.notes) == (16, 16, ())
    np.testing.assert_array_equal(back.pixels, source.pixels)
    if alpha:
        np.testing.assert_array_equal(back.alpha, source.alpha)
    assert back.icc == SRGB if not gray or alpha else back.icc[16:20] == b"GRAY"
    assert b"dc:format" in back.xmp
    assert "José".encode() in back.exif


def test_16_bit_tiff_read_by_pillow(monkeypatch):
    monkeypatch.setattr("irnscale.images.read.has_io", lambda: False)
    source = picture(depth=16, alpha=True)
    data = encode_picture(source, "tiff")
    with Image.open(io.BytesIO(data)) as image:
        assert image.tag_v2[258] == (16,) * 4
    np.testing.assert_array_equal(read_picture(data).pixels, source.pixels >> 8)


def test_tiff_of_several_strips():
    source = picture((700, 800))
    data = encode_picture(source, "tiff")
    with Image.open(io.BytesIO(data)) as image:
        assert len(image.tag_v2[273]) > 1
        assert image.info["compression"] == "tiff_adobe_deflate"
    np.testing.assert_array_equal(read_picture(data).pixels, source.pixels)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("gray", [False, True])
def test_metadata_is_kept(format, gray):
    source = picture(gray=gray, icc=SRGB, exif=exif(), xmp=XMP)
    for _ in range(2):  # a second pass finds what the first one left
        source = read_picture(encode_picture(source, format))
        assert source.notes == ()
        # a gray file may not have an RGB profile; one with the same curve takes its place
        assert source.icc == SRGB if not source.gray else source.icc[16:20] == b"GRAY"
        assert b"dc:format" in source.xmp
        kept = Image.Exif()
        kept.load(source.exif)
        assert kept[0x010F] == "Canon"
        assert "José".encode() in source.exif
        assert kept.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
        assert kept.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_invented(format):
    back = read_picture(encode_picture(picture(), format))
    assert (back.icc, back.exif, back.xmp, back.record, back.notes) == (None, None, None, None, ())


def test_what_a_jpeg_has_no_room_for_is_dropped_and_told():
    indivisible = XMP.replace(b'about=""', b'about="' + b"x" * 70000 + b'"')
    source = picture(exif=exif() + bytes(70000), xmp=indivisible, icc=SRGB)
    assert len(encoding_notes(source, "jpg")) == 2
    assert encoding_notes(source, "png") == ()
    back = read_picture(encode_picture(source, "jpg"))
    assert (back.exif, back.xmp, back.icc) == (None, None, SRGB)
    record = Provenance(
        *(
            "down",
            "0.1",
            "m",
            "0" * 12,
            2,
            4,
            4,
            2,
            2,
            (0, 0),
            True,
            "png",
            "0" * 64,
            "0" * 8,
            0,
            False,
            False,
        )
    )
    nearly = picture(xmp=XMP.replace(b"image/png", b"x" * 65000))
    assert read_picture(encode_picture(nearly, "jpg", record=record)).record == record


def test_jpeg_defaults_and_options():
    source = picture((64, 64))
    sampling = {}
    for name in (None, "4:4:4", "4:2:2", "4:2:0"):
        with Image.open(io.BytesIO(encode_picture(source, "jpg", subsampling=name))) as image:
            sampling[name] = image.layer[0][1:3]
    assert sampling == {None: (1, 1), "4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}
    sizes = [len(encode_picture(source, "jpg", quality=quality)) for quality in (10, 90, None)]
    assert sizes[0] < sizes[1] == sizes[2]


def test_webp_is_lossless_unless_a_quality_is_given():
    source = picture(alpha=True)
    np.testing.assert_array_equal(read_picture(encode_picture(source, "webp")).pixels, source.pixels)
    assert (read_picture(encode_picture(source, "webp", quality=50)).pixels != source.pixels).any()


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("png", {"quality": 90}, "`quality` has no meaning for png"),
        ("tiff", {"quality": 90}, "`quality` has no meaning for tiff"),
        ("webp", {"subsampling": "4:4:4"}, "`subsampling` has no meaning for webp"),
        ("jpg", {"subsampling": "4:1:0"}, "choose one of 4:4:4"),
        ("jpg", {"quality": 0}, "from 1 to 100"),
        ("webp", {"quality": 101}, "from 0 to 100"),
        ("gif", {}, "cannot write the format gif"),
        ("", {}, "cannot write"),
    ],
)
def test_options_that_make_no_sense(format, options, message):
    with pytest.raises(UsageError, match=message):
        encode_picture(picture(), format, **options)


def test_alpha_onto_jpeg_is_refused():
    with pytest.raises(UsageError, match="choose png or webp"):
        encode_picture(picture(alpha=True), "jpg")
    assert encode_picture(picture(opaque_alpha=True), "jpg")


@pytest.mark.parametrize(("format", "limit"), [("jpg", 65500), ("webp", 16383)])
def test_limits_are_those_of_the_encoders(format, limit):
    check_format_limits(format, limit, limit)
    assert read_picture(encode_picture(picture((1, limit)), format)).width == limit
    for size in ((limit + 1, 1), (1, limit + 1)):
        with pytest.raises(UsageError, match=f"ends at {limit} pixels per side \\(choose png"):
            check_format_limits(format, *size)
    with pytest.raises(UsageError, match="too large"):
        encode_picture(picture((1, limit + 1)), format)
    check_format_limits("png", 10**6, 10**6)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *[("a.png", "png"), ("A.JPG", "jpg"), ("a.jpeg", "jpg"), ("x/y.tif", "tiff"), ("a.b.tiff", "tiff")],
        *[("a.webp", "webp"), ("a.gif", None), ("png", None), (".png", None), ("-", None), ("a.png/b", None)],
    ],
)
def test_format_from_name(name, format):
    assert format_from_name(name) == format_from_name(Path(name)) == format


def test_is_lossy():
    answers = {format: [is_lossy(format, quality) for quality in (None, 90)] for format in FORMATS}
    expected = {
        "png": [False, False],
        "jpg": [True, True],
        "webp": [False, True],
        "tiff": [False, False],
        "avif": [True, True],
    }
    assert answers == expected


def test_describe(tmp_path):
    path = tmp_path / "small"
    record = Provenance(
        *(
            "down",
            "0.1",
            "m",
            "0" * 12,
            2,
            79,
            48,
            40,
            24,
            (1, 0),
            True,
            "png",
            "0" * 64,
            "0" * 8,
            0,
            False,
            False,
        )
    )
    for format in FORMATS:
        source = picture(icc=SRGB, exif=exif(), xmp=XMP)
        path.write_bytes(encode_picture(source, format, record=record))
        facts = describe(path)
        assert json.loads(json.dumps(facts)) == facts
        assert (facts["format"], facts["width"], facts["height"], facts["mode"]) == (format, 40, 24, "RGB")
        assert (facts["depth"], facts["alpha"], facts["orientation"], facts["frames"]) == (8, False, 1, 1)
        assert facts["exif"]
        assert facts["xmp"]
        assert facts["icc"] == "sRGB built-in"
        assert facts["provenance"]["padding"] == [1, 0]
    path.write_bytes(encode_picture(picture(depth=16, gray=True), "png"))
    assert describe(path)["depth"] == 16
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(path, "PNG", icc_profile=b"junk")
    assert describe(path)["alpha"]
    assert describe(path)["icc"] == "unreadable"


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_creates_and_overwrites(tmp_path):
    target = tmp_path / "x.png"
    write_bytes_atomic(b"one", target)
    with pytest.raises(OutputError, match=r"x\.png: already exists \(add `overwrite`"):
        write_bytes_atomic(b"two", target)
    assert target.read_bytes() == b"one"
    target.chmod(0o640)
    write_bytes_atomic(b"two", target, overwrite=True)
    assert target.read_bytes() == b"two"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    write_bytes_atomic(b"new", tmp_path / "y.png", overwrite=True)
    assert left(tmp_path) == ["x.png", "y.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_no_file_takes_the_place_of_a_pipe_or_device(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="is a device or a pipe"):
        write_bytes_atomic(b"", pipe, overwrite=True)
    with pytest.raises(OutputError, match="is a device or a pipe"):
        check_writable(pipe, overwrite=True)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_write_respects_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_bytes_atomic(b"", tmp_path / "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


@pytest.mark.parametrize("overwrite", [False, True])
def test_places_that_cannot_be_written(tmp_path, overwrite):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for place, message in (
        ("gone/x.png", "its folder does not exist"),
        ("file/x.png", "is no folder"),
        ("folder", "is a folder"),
        ("x" * 300, "cannot be written"),
    ):
        with pytest.raises(OutputError, match=message):
            write_bytes_atomic(b"data", tmp_path / place, overwrite=overwrite)
    assert left(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may not be written to"):
        write_bytes_atomic(b"data", tmp_path / "x")


@pytest.mark.parametrize("function", ["fsync", "open", "link"])
@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputError, "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), OutputError, "may not be written to"),
        (OSError(errno.EIO, "Input/output error"), OutputError, "Input/output error"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_failures_leave_nothing_behind(tmp_path, monkeypatch, function, error, expected, message):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(expected, match=message):
        write_bytes_atomic(b"data", tmp_path / "x.png")
    monkeypatch.undo()
    assert left(tmp_path) == []


def test_interrupt_while_replacing_keeps_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "x.png"
    target.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_bytes_atomic(b"new", target, overwrite=True)
    assert left(tmp_path) == ["x.png"]
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("links", [True, False])
def test_only_one_of_many_writers_wins(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*args, **kwargs):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)  # all look before any has written
    target, results, refusals = tmp_path / "x.png", [], []

    def write(number):
        try:
            write_bytes_atomic(bytes([number]) * 1000, target)
            results.append(number)
        except OutputError as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 1
    assert refusals == [f"{target}: already exists (add `overwrite` to replace it)"] * 7
    assert target.read_bytes() == bytes(results) * 1000
    assert left(tmp_path) == ["x.png"]


def test_without_links_a_failed_rename_gives_the_name_back(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.ENOTSUP, "Not supported")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError):
        write_bytes_atomic(b"data", tmp_path / "x.png")
    assert left(tmp_path) == []


def test_dangling_link_counts_as_existing(tmp_path):
    (tmp_path / "x").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="already exists"):
        write_bytes_atomic(b"data", tmp_path / "x")
