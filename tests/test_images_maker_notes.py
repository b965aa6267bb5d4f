"""Maker notes: their offsets count from the TIFF header, so that they stay where they are, or are dropped and told."""

from __future__ import annotations

import io
import struct
from itertools import product

import numpy as np
import pytest
from conftest import synthetic_photo
from PIL import Image
from test_images_embedded import EXIF_UUIDS, jp2, psd
from test_images_read import encoded
from test_images_write import exif as plain_exif
from tiff_files import Entry, gray_tiff, number

from irnscale.images.picture import Picture
from irnscale.images.read import read_picture
from irnscale.images.segments import attached, attachment, detached
from irnscale.images.write import FORMATS, encode_picture, encoding_notes

SECRET = b"the serial number of the lens"
PRINT = b"PrintIM\x000300\0\0\0\0"
DROPPED = "the camera's maker note was dropped: it cannot be read at another place than it has in this TIFF"
DATE = b"2020:01:01 00:00:00\0"


def directory(order: str, start: int, entries: list[Entry]) -> bytes:
    """A directory at `start`, with the contents behind it, as a camera lays it out."""
    table, contents = struct.pack(order + "H", len(entries)), b""
    place = start + 2 + 12 * len(entries) + 4
    for tag, kind, content in sorted(entries):
        count = len(content) // {2: 1, 3: 2, 4: 4, 5: 8, 7: 1}[kind]
        table += struct.pack(order + "HHI", tag, kind, count)
        if len(content) > 4:
            table += struct.pack(order + "I", place + len(contents))
            contents += content + bytes(len(content) % 2)
        else:
            table += content.ljust(4, b"\0")
    return table + bytes(4) + contents


def note(order: str, start: int) -> bytes:
    """A maker note as Canon's: a bare directory, whose one entry has an offset that counts from the TIFF header."""
    head = struct.pack(order + "HHHII", 1, 0x0095, 2, len(SECRET), start + 18) + bytes(4)
    assert len(head) == 18
    return head + SECRET


def length_of_note() -> int:
    return 18 + len(SECRET)


def block(order: str, *, orientation: int = 1, gap: int = 0) -> bytes:
    """EXIF of a camera: maker, orientation, PrintIM; date, note, interoperability."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    first = [
        Entry(0x010F, 2, b"Canon\0"),
        number(order, 0x0112, orientation, 3),
        Entry(0xC4A5, 7, PRINT),
        number(order, 0x8769, 0),
    ]
    sub = 8 + len(directory(order, 8, first))
    first[-1] = number(order, 0x8769, sub)
    interop = directory(order, 0, [Entry(1, 2, b"R98\0"), Entry(2, 7, b"0100")])
    made = [Entry(0x9003, 2, DATE), number(order, 0xA005, 0), Entry(0x927C, 7, bytes(length_of_note()))]
    at = sub + 2 + 12 * len(made) + 4 + len(DATE)  # of the note, the first content behind the date
    made[1] = number(order, 0xA005, at + length_of_note() + length_of_note() % 2)
    made[2] = Entry(0x927C, 7, note(order, at))
    whole = head + directory(order, 8, first) + directory(order, sub, made) + interop
    assert whole.index(SECRET) == at + 18
    return whole + bytes(gap)


def number_at(data: bytes, order: str, at: int, kind: str) -> int:
    return struct.unpack_from(order + kind, data, at)[0]


def found(data: bytes, *path: int) -> bytes | None:
    """The content of an entry: through the directories that tags lead to, read apart from the program."""
    order = "<" if data[:2] == b"II" else ">"
    at = number_at(data, order, 4, "I")
    for step, tag in enumerate(path):
        for entry in range(at + 2, at + 2 + 12 * number_at(data, order, at, "H"), 12):
            if number_at(data, order, entry, "H") == tag:
                break
        else:
            return None
        if step < len(path) - 1:
            at = number_at(data, order, entry + 8, "I")
    size = (
        number_at(data, order, entry + 4, "I")
        * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}[number_at(data, order, entry + 2, "H")]
    )
    place = entry + 8 if size <= 4 else number_at(data, order, entry + 8, "I")
    return data[place : place + size]


def in_note(data: bytes) -> bytes | None:
    """What the maker note's own offset leads to; None without a note."""
    content = found(data, 0x8769, 0x927C)
    if content is None:
        return None
    order = "<" if data[:2] == b"II" else ">"
    length, at = struct.unpack_from(order + "II", content, 6)
    return data[at : at + length]


def exif_of(data: bytes) -> bytes:
    """The TIFF structure with the EXIF of a file: the file itself, or the block as Pillow finds it."""
    if data[:2] in (b"II", b"MM"):
        return data
    with Image.open(io.BytesIO(data)) as image:
        return image.info["exif"].removeprefix(b"Exif\0\0")


def photo() -> Image.Image:
    return Image.fromarray(synthetic_photo(12, 20))


def with_exif(format: str, block: bytes) -> bytes:
    return encoded(photo(), format, exif=b"Exif\0\0" + block if format != "AVIF" else block)


def check(data: bytes) -> None:
    assert in_note(data) == SECRET
    assert found(data, 0x010F) == b"Canon\0"
    assert found(data, 0xC4A5) == PRINT
    assert found(data, 0x8769, 0x9003) == DATE
    assert found(data, 0x8769, 0xA005, 1) == b"R98\0"
    assert found(data, 0x8769, 0xA005, 2) == b"0100"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("targets", [*product(FORMATS), *product(("tiff",), FORMATS), ("tiff", "tiff", "jpg")])
def test_a_note_stays_readable(source, order, targets):
    check(block(order))
    data = with_exif(source, block(order, orientation=6) if source != "AVIF" else plain(order))
    for target in targets:
        picture = read_picture(data)
        assert picture.notes == ()
        assert encoding_notes(picture, target) == ()
        data = encode_picture(picture, target)
        check(exif_of(data))


def in_jpegxl(block: bytes) -> bytes:
    codecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("tifffile")
    content = bytes(4) + block
    whole = codecs.jpegxl_encode(synthetic_photo(12, 20), lossless=True, usecontainer=True)
    return whole + struct.pack(">I4s", len(content) + 8, b"Exif") + content


def in_heic(block: bytes) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    image, file = photo(), io.BytesIO()
    image.info["exif"] = block
    heif.from_pillow(image).save(file)
    return file.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "make", [in_jpegxl, in_heic, lambda made: psd((1058, made)), lambda made: jp2(EXIF_UUIDS[0] + made)]
)
@pytest.mark.parametrize("target", FORMATS)
def test_a_note_of_a_format_that_is_only_read(make, order, target):
    picture = read_picture(make(block(order, orientation=6)))
    assert picture.notes == ()
    check(exif_of(encode_picture(picture, target)))


def plain(order: str) -> bytes:
    """A block without an orientation, which Pillow would rewrite for AVIF."""
    return block(order).replace(struct.pack(order + "HH", 0x0112, 3), struct.pack(order + "HH", 0x0111, 3))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stored", [1, 3, 6])
def test_a_note_of_an_avif_whose_exif_has_an_orientation_of_its_own(order, stored):
    """The picture's own properties count, and Pillow would rewrite the block to say so."""
    pytest.importorskip("PIL._avif")
    data = with_exif("AVIF", plain(order))
    entry = struct.pack(order + "HHIHH", 0x0111, 3, 1, 1, 0)
    assert entry in data
    data = data.replace(entry, struct.pack(order + "HHIHH", 0x0112, 3, 1, stored, 0))
    picture = read_picture(data)
    assert (picture.width, picture.orientation, picture.notes) == (20, 1, ())
    assert found(picture.exif, 0x0112) == struct.pack(order + "H", 1)
    for target in FORMATS:
        check(exif_of(encode_picture(picture, target)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("kind", ["gray", "gray alpha", "colour", "alpha"])
@pytest.mark.parametrize("io_installed", [False, True])
def test_pixels_of_a_tiff_in_the_order_of_its_exif(order, depth, kind, io_installed, monkeypatch):
    if io_installed:
        pytest.importorskip("tifffile")
        pytest.importorskip("imagecodecs")
    else:
        monkeypatch.setattr("irnscale.images.read.has_io", lambda: False)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2**depth, (700, 500, 3), f"uint{depth}")
    gray = kind.startswith("gray")
    pixels = np.repeat(pixels[..., :1], 3, axis=2) if gray else pixels
    alpha = pixels[..., 0] // 2 if "alpha" in kind else None
    made = Picture(pixels, alpha, gray, False, depth, None, block(order), None, "png", "0" * 64)
    data = encode_picture(made, "tiff")
    assert data[:2] == (b"II" if order == "<" else b"MM")
    read = read_picture(data)
    whole = read.depth == depth
    assert whole or not io_installed
    np.testing.assert_array_equal(read.pixels, pixels if whole else pixels >> 8)
    assert (read.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(read.alpha, alpha if whole else alpha >> 8)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tifffile_agrees(order):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    pixels = np.random.default_rng(0).integers(0, 2**16, (70, 50, 3), "uint16")
    made = Picture(
        pixels, None, False, False, 16, None, block(order), b"<x/>", "png", "0" * 64, iptc=b"\x1c\2\x78\0\1a"
    )
    with tifffile.TiffFile(io.BytesIO(encode_picture(made, "tiff"))) as file:
        (page,) = file.pages
        np.testing.assert_array_equal(page.asarray(), pixels)
        assert page.tags[0x010F].value == "Canon"
        assert page.tags[700].value == b"<x/>"
        assert page.tags[0x8769].value["DateTimeOriginal"] == DATE[:-1].decode()


@pytest.mark.parametrize("order", ["<", ">"])
def test_detail_is_attached_in_either_order(order):
    data = encode_picture(read_picture(with_exif("JPEG", block(order))), "tiff")
    whole = attached(data, b"a block of detail", "tiff")
    assert attachment(whole) == b"a block of detail"
    check(whole)
    assert attachment(detached(whole)) != b"a block of detail"
    assert read_picture(whole).attachment == b"a block of detail"


def tiff_with_note(order: str, content: bytes | None, far: int) -> bytes:
    """A gray TIFF with an EXIF directory `far` bytes behind its end: as programs write them, which append."""
    empty = gray_tiff(order, [Entry(0x010F, 2, b"Canon\0"), number(order, 0x8769, 0)])
    sub = len(empty) + far
    entries = [
        Entry(0x9003, 2, DATE),
        number(order, 0xA005, 0),
        number(order, 0xA002, 12),
        Entry(0x927C, 7, bytes(length_of_note())),
    ]
    at = sub + 2 + 12 * len(entries) + 4 + len(DATE)
    entries[3] = Entry(0x927C, 7, note(order, at) if content is None else content)
    base = directory(order, sub, entries)
    entries[1] = number(order, 0xA005, sub + len(base))
    interop = directory(order, 0, [Entry(1, 2, b"R98\0"), Entry(2, 7, b"0100")])
    whole = gray_tiff(order, [Entry(0x010F, 2, b"Canon\0"), number(order, 0x8769, sub)])
    return whole + bytes(far) + directory(order, sub, entries) + interop


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("far", [0, 1000, 64_900, 65_500, 2_000_000])
@pytest.mark.parametrize("target", FORMATS)
def test_a_note_of_another_programs_tiff_is_kept_or_told(order, far, target):
    data = tiff_with_note(order, None, far)
    assert in_note(data) == SECRET
    picture = read_picture(data)
    kept = far < 65_000
    assert picture.notes == (() if kept else (DROPPED,))
    assert encoding_notes(picture, target) == ()
    written = exif_of(encode_picture(picture, target))
    assert in_note(written) == (SECRET if kept else None)
    assert found(written, 0x010F) == b"Canon\0"
    assert found(written, 0x8769, 0x9003) == DATE
    assert found(written, 0x8769, 0xA005, 1) == b"R98\0"
    assert found(written, 0x8769, 0xA002) is None


@pytest.mark.parametrize(
    "begin", [b"Nikon\0\2\0\0\0", b"OLYMPUS\0II\3\0", b"FUJIFILM\x0c\0\0\0", b"Apple iOS\0\0\1MM", b"PENTAX \0MM"]
)
def test_a_note_whose_offsets_count_from_itself_may_move(begin):
    content = begin + bytes(range(100))
    picture = read_picture(tiff_with_note(">", content, 100_000))
    assert picture.notes == ()
    for target in FORMATS:
        assert found(exif_of(encode_picture(picture, target)), 0x8769, 0x927C) == content


def test_a_short_note_is_its_own_entry():
    picture = read_picture(tiff_with_note("<", b"abc", 100_000))
    assert picture.notes == ()
    assert found(picture.exif, 0x8769, 0x927C) == b"abc"


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_leads_beyond_the_block_does_not_lead_into_the_pixels(order):
    cut = block(order)
    cut = cut[: cut.index(SECRET) + 5]  # within the note
    written = encode_picture(read_picture(encoded(photo(), "PNG", exif=cut)), "tiff")
    assert found(written, 0x8769, 0x9003) == DATE
    assert found(written, 0x8769, 0x927C) is None
    assert found(written, 0x010F) == b"Canon\0"


@pytest.mark.parametrize("order", ["<", ">"])
def test_damaged_exif_of_a_tiff_is_told(order):
    whole = tiff_with_note(order, None, 0)
    cut = read_picture(whole[: whole.index(SECRET) + 5])
    assert cut.notes == ("a part of its EXIF is damaged and was dropped",)
    assert found(cut.exif, 0x8769, 0x9003) == DATE
    nowhere = read_picture(gray_tiff(order, [Entry(0x010F, 2, b"Canon\0"), number(order, 0x8769, 10**9)]))
    assert nowhere.notes == cut.notes
    assert found(nowhere.exif, 0x010F) == b"Canon\0"


def test_many_tags_on_the_same_bytes_are_not_read_over_and_over():
    """4096 times 30 megabytes."""
    order, far = "<", 30_000_000
    base = gray_tiff(order, [number(order, 0x8769, 0)])
    sub = len(base)
    base = gray_tiff(order, [number(order, 0x8769, sub)])
    table = b"".join(struct.pack("<HHII", 0x9000 + k, 7, far - 100_000, 8) for k in range(4000))
    picture = read_picture(base + struct.pack("<H", 4000) + table + bytes(far))
    assert picture.exif is None or len(picture.exif) < 2**26
    assert picture.notes == ("a part of its EXIF is damaged and was dropped",)


def test_exif_without_a_note_is_what_it_was():
    """Text that is no ASCII, fractions and signed numbers, through TIFF and back."""
    picture = read_picture(encoded(photo(), "PNG", exif=plain_exif()))
    again = read_picture(encode_picture(picture, "tiff"))
    for path in ((0x010F,), (0x013B,), (0x8769, 0x9003), (0x8769, 0x829A), (0x8825, 1), (0x8825, 2)):
        assert found(again.exif, *path) == found(picture.exif, *path) is not None


def test_exif_of_a_bigtiff():
    """Whose directories have wider entries: the block has the ordinary ones."""
    base = gray_tiff("<", [Entry(0x010F, 2, b"Canon\0"), number("<", 0x8769, 0)], big=True)
    sub = len(base)
    values = sub + 8 + 2 * 20 + 8
    entries = struct.pack("<Q", 2) + struct.pack("<HHQQ", 0x9003, 2, len(DATE), values)
    at = values + len(DATE)
    entries += struct.pack("<HHQQ", 0x927C, 7, length_of_note(), at) + bytes(8)
    data = gray_tiff("<", [Entry(0x010F, 2, b"Canon\0"), number("<", 0x8769, sub)], big=True)
    picture = read_picture(data + entries + DATE + note("<", at))
    assert picture.notes == ()
    assert found(picture.exif, 0x010F) == b"Canon\0"
    assert found(picture.exif, 0x8769, 0x9003) == DATE
    assert in_note(picture.exif) == SECRET
