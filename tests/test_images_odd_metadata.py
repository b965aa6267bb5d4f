"""Metadata where other programs put it against the book: it is kept, and `info` tells of it."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from commandline import runner
from conftest import synthetic_photo
from PIL import Image, PngImagePlugin
from test_images_read import encoded

from irnscale.images.iptc import PNG_KEYWORD
from irnscale.images.jpeg_segments import APP13, segment
from irnscale.images.photoshop import SEGMENT_IDENTIFIER, as_resource
from irnscale.images.read import read_picture
from irnscale.images.write import encode_picture

KEYWORDS = b"\x1c\x02\x19\x00\x03sea"
CAPTION = b"\x1c\x02\x78\x00\x03cap"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:source>here</dc:source>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def photo() -> Image.Image:
    return Image.fromarray(synthetic_photo(12, 20))


def exif() -> bytes:
    block = Image.Exif()
    block[0x013B] = "Artist"
    return block.tobytes().removeprefix(b"Exif\0\0")


def artist(block: bytes | None) -> str:
    assert block is not None
    found = Image.Exif()
    found.load(block)
    return str(found[0x013B])


@pytest.mark.parametrize("second", [CAPTION, KEYWORDS + CAPTION[:0]])
def test_iptc_in_two_resources(second):
    parts = [segment(APP13, SEGMENT_IDENTIFIER + as_resource(1028, block)) for block in (KEYWORDS + b"\0", second)]
    found = read_picture(encoded(photo(), "JPEG", extra=b"".join(parts)))
    assert found.notes == ()
    assert found.iptc == KEYWORDS + second
    again = read_picture(encoded(photo(), "JPEG", extra=parts[0] + parts[0]))
    assert again.iptc == KEYWORDS, "written twice, it counts once"


def test_iptc_of_a_png_with_the_header_of_a_jpeg_segment():
    content = SEGMENT_IDENTIFIER + as_resource(1028, KEYWORDS)
    for keyword in (PNG_KEYWORD, "Raw profile type 8bim"):
        texts = PngImagePlugin.PngInfo()
        texts.add_text(keyword, f"\niptc\n{len(content):8d}\n{content.hex()}\n")
        found = read_picture(encoded(photo(), "PNG", pnginfo=texts))
        assert (found.iptc, found.notes) == (KEYWORDS, ())


def test_packed_exif_of_a_png():
    data = encoded(photo(), "PNG")
    content = b"zxIf\0" + struct.pack(">I", len(exif())) + zlib.compress(exif())
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    assert artist(read_picture(data[:33] + chunk + data[33:]).exif) == "Artist"
    broken = content[:9] + b"none"
    chunk = struct.pack(">I", len(broken) - 4) + broken + struct.pack(">I", zlib.crc32(broken))
    assert read_picture(data[:33] + chunk + data[33:]).exif is None


@pytest.mark.parametrize("name", [b"XMP ", b"XMP\0"])
@pytest.mark.parametrize("flags", [0, 0x0C])
@pytest.mark.parametrize("first", [True, False])
def test_chunks_of_a_webp_that_its_header_does_not_announce(name, flags, first):
    file = io.BytesIO()
    photo().save(file, "WEBP", lossless=True)
    pixels = file.getvalue()[12:]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    header = chunk(b"VP8X", bytes([flags, 0, 0, 0]) + (19).to_bytes(3, "little") + (11).to_bytes(3, "little"))
    extra = chunk(b"EXIF", b"Exif\0\0" + exif()) + chunk(name, XMP)
    body = b"WEBP" + header + (extra + pixels if first else pixels + extra)
    found = read_picture(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert artist(found.exif) == "Artist"
    assert found.xmp is not None
    assert b"here" in found.xmp
    assert np.array_equal(found.pixels, np.asarray(photo()))


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("utf16 ü".encode("utf-16"), ["utf16 ü"]),
        ("utf16 中".encode("utf-16-be"), None),  # without its mark it may be anything
        (b"\xfe\xff" + "utf16 中".encode("utf-16-be"), ["utf16 中"]),
        (b"\xff\xfeodd", ["ÿþodd"]),
        (b"", []),
        (b" \0", []),
    ],
)
def test_comments_of_a_jpeg(comment, expected):
    found = read_picture(encoded(photo(), "JPEG", extra=segment(0xFE, comment)))
    if expected is not None:
        assert [text.text for text in found.texts] == expected


@pytest.mark.parametrize("stored", ["Grüße".encode("latin-1"), "Grüße".encode()])
def test_a_comment_of_a_png_becomes_one_of_a_jpeg_in_utf8(stored):
    data = encoded(photo(), "PNG")
    content = b"tEXtComment\0" + stored
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    small = encode_picture(read_picture(data[:33] + chunk + data[33:]), "jpg")
    assert segment(0xFE, "Grüße".encode()) in small
    latin = segment(0xFE, "Grüße".encode("latin-1"))
    kept = encode_picture(read_picture(encoded(photo(), "JPEG", extra=latin)), "jpg")
    assert latin in kept, "in a JPEG nothing says what it is"


def test_a_comment_comes_back_as_it_was(capfdbinary, monkeypatch, tmp_path):
    latin = segment(0xFE, "Grüße".encode("latin-1"))
    (tmp_path / "a.jpg").write_bytes(encoded(photo(), "JPEG", extra=latin))
    run = runner(capfdbinary, monkeypatch)
    assert run("down", tmp_path / "a.jpg", "-s", 2, "-o", tmp_path / "s.png").code == 0
    assert run("up", tmp_path / "s.png", "-o", tmp_path / "b.jpg").code == 0
    assert latin in (tmp_path / "b.jpg").read_bytes()
