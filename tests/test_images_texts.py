"""Texts beside the pixels: kept where a format has a place for them, told where it has none, and never trusted."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from commandline import runner
from conftest import synthetic_photo
from PIL import Image
from test_images_embedded import gif, needs_jp2, with_uuids
from test_images_read import encoded

from irnscale.errors import InputError
from irnscale.images.inspect import describe
from irnscale.images.jpeg_segments import ROOM, segment
from irnscale.images.read import read_picture
from irnscale.images.texts import COMMENT, Text
from irnscale.images.write import FORMATS, encode_picture, encoding_notes

COM = 0xFE
LATIN, GREEK = "Grüße", "Γειά"


def photo() -> Image.Image:
    return Image.fromarray(synthetic_photo(12, 20))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes, behind: bool = False) -> bytes:
    """A PNG with more chunks before its pixels, or behind them."""
    data = encoded(photo(), "PNG")
    at = len(data) - 12 if behind else 33
    return data[:at] + b"".join(chunks) + data[at:]


def itxt(keyword: str, text: str, language: str = "", translated: str = "", *, compressed: bool = False) -> bytes:
    body = zlib.compress(text.encode()) if compressed else text.encode()
    head = keyword.encode("latin-1") + b"\0" + bytes((compressed, 0)) + language.encode() + b"\0"
    return chunk(b"iTXt", head + translated.encode() + b"\0" + body)


def text(keyword: str, content: str) -> bytes:
    return chunk(b"tEXt", f"{keyword}\0{content}".encode("latin-1"))


def ztxt(keyword: str, content: bytes) -> bytes:
    return chunk(b"zTXt", keyword.encode("latin-1") + b"\0\0" + content)


def jpeg(*comments: bytes) -> bytes:
    return encoded(photo(), "JPEG", extra=b"".join(segment(COM, comment) for comment in comments))


def gif_comment(content: bytes) -> bytes:
    blocks = [content[at : at + 255] for at in range(0, len(content), 255)]
    return b"!\xfe" + b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Every chunk of a PNG, whose sums are right."""
    at, found = 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + content)
        found.append((kind, content))
        at += 12 + length
    return found


def comments_of(data: bytes) -> list[bytes]:
    """The COM segments of a JPEG."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        if data[at + 1] == COM:
            found.append(data[at + 4 : at + 2 + length])
        at += 2 + length
    return found


ALL = (
    text("Title", "Sea"),
    text("Description", LATIN),
    ztxt("Warning", zlib.compress(b"cold " * 400)),
    itxt("Author", GREEK, "el", "Συγγραφέας"),
    itxt("prompt", "{" + GREEK * 400 + "}", compressed=True),
    text("Comment", "one"),
    text("Comment", "another"),
    text("parameters", "a\nb\x1b[2J"),
)


@pytest.mark.parametrize("behind", [False, True])
def test_png_to_png(behind):
    picture = read_picture(png(*ALL, behind=behind))
    assert picture.notes == ()
    assert encoding_notes(picture, "png") == ()
    data = encode_picture(picture, "png")
    found = [one for one in chunks_of(data) if one[0] in (b"tEXt", b"zTXt", b"iTXt")]
    expected = chunks_of(png(*ALL))[1:-2]
    assert [(kind, content.partition(b"\0")[0]) for kind, content in found] == [
        (kind, content.partition(b"\0")[0]) for kind, content in expected
    ]
    with Image.open(io.BytesIO(data)) as image:
        assert image.text["Description"] == LATIN
        assert (image.text["Author"], image.text["Author"].lang, image.text["Author"].tkey) == (
            GREEK,
            "el",
            "Συγγραφέας",
        )
        assert image.text["Warning"] == "cold " * 400
        assert image.text["prompt"] == "{" + GREEK * 400 + "}"
        assert image.text["Comment"] == "another"
        assert image.text["parameters"] == "a\nb\x1b[2J"
    assert read_picture(data).texts == picture.texts
    bare = encode_picture(picture.stripped("metadata"), "png")
    assert {kind for kind, _ in chunks_of(bare)} == {b"IHDR", b"IDAT", b"IEND"}


def test_kept_in_a_png_of_16_bits():
    pytest.importorskip("imagecodecs")
    picture = read_picture(png(*ALL))
    data = encode_picture(picture.with_pixels(picture.pixels.astype(np.uint16) * 257), "png")
    assert data[24] == 16
    assert read_picture(data).texts == picture.texts


COMMENTS = [b"plain", "Grüße".encode(), "Grüße".encode("latin-1"), b"a" * ROOM, b"ends in nothing\0"]


@pytest.mark.parametrize("comment", COMMENTS, ids=range(len(COMMENTS)))
@pytest.mark.parametrize("source", ["jpg", "gif", "gif behind"])
def test_comment_to_comment(source, comment):
    place = "back" if source == "gif behind" else "front"
    data = jpeg(comment) if source == "jpg" else gif(gif_comment(comment), place)
    picture = read_picture(data)
    assert picture.notes == ()
    for target in ("png", "jpg"):
        assert encoding_notes(picture, target) == ()
    assert comments_of(encode_picture(picture, "jpg")) == [comment.rstrip(b"\0")]
    letters = comment.rstrip(b"\0").decode("latin-1" if comment == COMMENTS[2] else "utf-8")
    small = encode_picture(picture, "png")
    with Image.open(io.BytesIO(small)) as image:
        assert image.text[COMMENT] == letters
    assert comments_of(encode_picture(read_picture(small), "jpg")) == [letters.encode()], (
        "of a PNG its letters are known"
    )


def test_several_comments():
    data = encode_picture(read_picture(jpeg(b"one", b"another")), "png")
    assert comments_of(encode_picture(read_picture(data), "jpg")) == [b"one", b"another"]


@needs_jp2
def test_comment_of_a_jpeg2000():
    assert read_picture(encoded(photo(), "JPEG2000")).texts == ()  # the encoder's stamp
    with_comment = encoded(photo(), "JPEG2000", comment="sea")
    assert read_picture(with_comment).texts == (Text(COMMENT, "sea"),)
    assert read_picture(with_uuids(with_comment, bytes(16))).texts == (Text(COMMENT, "sea"),)
    stamp, binary = b"\xff\x64\0\x1b\0\1Created by OpenJPEG ver", b"\xff\x64\0\x06\0\0ab"
    assert len(stamp) == 2 + 0x1B
    at = with_comment.index(b"\xff\x64")
    assert read_picture(with_comment[:at] + stamp + binary + with_comment[at:]).texts == (Text(COMMENT, "sea"),)


@pytest.mark.parametrize("target", ["jpg", "tiff", "webp", "avif"])
def test_texts_that_exif_knows(target):
    """Description, Author, Copyright and Software have tags; Title and Warning have none."""
    named = [text("Description", LATIN), itxt("Author", GREEK), text("Copyright", "me"), text("Software", "GIMP")]
    picture = read_picture(png(*named))
    assert encoding_notes(picture, target) == ()
    with Image.open(io.BytesIO(encode_picture(picture, target))) as image:
        exif = image.getexif()
        said = [exif[tag].encode("latin-1").decode() for tag in (0x010E, 0x013B, 0x8298, 0x0131)]
    assert said == [LATIN, GREEK, "me", "GIMP"]
    picture = read_picture(png(*named, text("Title", "Sea"), text("Warning", "cold")))
    (note,) = encoding_notes(picture, target)
    assert "(Title, Warning)" in note
    assert target in note


@pytest.mark.parametrize("target", ["tiff", "webp", "avif"])
def test_a_comment_becomes_the_description(target):
    picture = read_picture(jpeg(b"sea"))
    assert encoding_notes(picture, target) == ()
    with Image.open(io.BytesIO(encode_picture(picture, target))) as image:
        assert image.getexif()[0x010E] == "sea"
    both = read_picture(png(text("Comment", "sea"), text("Description", "land")))
    assert "(Comment)" in encoding_notes(both, target)[0]
    with Image.open(io.BytesIO(encode_picture(both, target))) as image:
        assert image.getexif()[0x010E] == "land"


@pytest.mark.parametrize("target", ["jpg", "tiff", "webp", "avif"])
def test_exif_that_is_there_is_not_overwritten(target):
    exif = Image.Exif()
    exif[0x010E] = "of the camera"
    data = encoded(photo(), "PNG", exif=exif.tobytes())
    for said, notes in (("of the camera", 0), ("another", 1)):
        picture = read_picture(data[:33] + text("Description", said) + data[33:])
        assert len(encoding_notes(picture, target)) == notes
        with Image.open(io.BytesIO(encode_picture(picture, target))) as image:
            assert image.getexif()[0x010E] == "of the camera"


def test_texts_too_long_for_a_jpeg():
    picture = read_picture(png(text("Comment", "c" * (ROOM + 1)), text("Description", "d" * ROOM)))
    assert "(Comment, Description)" in encoding_notes(picture, "jpg")[0]
    data = encode_picture(picture, "jpg")
    assert comments_of(data) == []
    assert read_picture(data).exif is None


@pytest.mark.parametrize("target", FORMATS)
def test_what_is_kept_elsewhere_or_speaks_of_other_pixels_is_no_text(target):
    data = png(text("Raw profile type APP1", "x"), text("Thumb::Size", "9"), text("irnscale", "{}"))
    picture = read_picture(data)
    assert picture.texts == ()
    assert "Thumb" not in encode_picture(picture, target).decode("latin-1")


def bomb(mebibytes: int) -> bytes:
    deflate = zlib.compressobj(9)
    return b"".join(deflate.compress(b"a" * 2**20) for _ in range(mebibytes)) + deflate.flush()


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "hostile",
    {
        "inflates beyond 4 MiB": ztxt("Warning", bomb(5)),
        "longer than 4 MiB": text("Warning", "cold" * 2**20 + "er"),
        "no deflate": ztxt("Warning", b"nonsense"),
        "cut off": ztxt("Warning", zlib.compress(b"cold" * 99)[:-9]),
        "keyword of none": chunk(b"tEXt", b"\0sea"),
        "keyword with controls": chunk(b"tEXt", b"a\x1b[2Jb\0sea"),
        "keyword of 80": chunk(b"tEXt", b"a" * 80 + b"\0sea"),
        "not UTF-8": chunk(b"iTXt", b"Title\0\0\0\0\0\xff\xfe"),
        "without its language": chunk(b"iTXt", b"Title\0\0\0"),
    }.items(),
    ids=lambda named: named[0],
)
def test_hostile_texts_cost_only_themselves(hostile, behind):
    picture = read_picture(png(text("Title", "Sea"), hostile[1], text("Author", "me"), behind=behind))
    assert picture.texts == (Text("Title", "Sea"), Text("Author", "me"))
    (note,) = picture.notes
    assert note.isprintable()
    assert "1 of its texts" in note


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("hostile", [[bomb(200)], [bomb(15)] * 5], ids=["one", "together"])
def test_bombs_that_pillow_refuses_are_no_damage(hostile, behind):
    data = png(*(ztxt("Warning", content) for content in hostile), behind=behind)
    assert len(data) < 10**6
    with pytest.raises(InputError, match="texts or profile are longer than 16 MiB"):
        read_picture(data)


def test_many_texts_are_bounded():
    """A thousand, and 16 MiB of letters, however small the file is."""
    picture = read_picture(png(*(text("a", "b") for _ in range(1001)), behind=True))
    assert len(picture.texts) == 1000
    assert "too many" in picture.notes[0]
    many = png(*[ztxt("a", bomb(3))] * 9, behind=True)
    assert len(many) < 60_000
    picture = read_picture(many)
    assert [len(one.text) for one in picture.texts] == [3 * 2**20] * 5
    assert "too many" in picture.notes[0]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_gif_cut_off_in_its_comment(cut):
    whole = gif(gif_comment(b"sea" * 200), "back")
    with_less = whole[: len(whole) - cut]
    assert all(text.keyword == COMMENT for text in read_picture(with_less).texts)


@pytest.mark.parametrize("target", ["tiff", "png", "jpg", "webp"])
def test_texts_of_a_tiff(target):
    """They are tags, and stay so in the EXIF of other formats: names of document and page, description, artist."""
    said = {0x010D: "document", 0x010E: "sea", 0x011D: "page", 0x013B: "me"}
    picture = read_picture(encoded(photo(), "TIFF", tiffinfo=said))
    assert encoding_notes(picture, target) == ()
    with Image.open(io.BytesIO(encode_picture(picture, target))) as image:
        exif = image.getexif()
        assert {tag: exif.get(tag) for tag in said} == said


def test_info_names_them(tmp_path, capfdbinary, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png(text("Title", "Sea\x1b[2J"), text("Warning", "cold"), chunk(b"tEXt", b"a\x1b[2Jb\0sea")))
    assert describe(path)["texts"] == ["Title", "Warning"]
    result = runner(capfdbinary, monkeypatch)("info", path)
    assert "  texts: Title, Warning" in result.text.splitlines()
    assert "\x1b" not in result.text
