"""Metadata in containers where Pillow does not look for it: JPEG 2000, PSD and GIF."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from conftest import synthetic_photo
from PIL import Image, PngImagePlugin, features
from test_images_iptc import KEPT
from test_images_read import encoded
from xmp_packets import packet, wrapped

from irnscale.images.inspect import describe
from irnscale.images.read import read_header, read_picture
from irnscale.images.write import encode_picture, encoding_notes

EXIF_UUIDS = (b"JpgTiffExif->JP2", bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e"))
IPTC_UUIDS = (bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"), bytes.fromhex("09a14e97c0b442e0bebf36df6f0ce36f"))
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
PHOTOSHOP_UUID = bytes.fromhex("2c4c0100850440b9a03e562148d6dfeb")

MAKER = b"Maker\0"
CITY = "<photoshop:City>Zürich</photoshop:City>"
XMP = wrapped(packet(CITY)).encode()
RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(KEPT)) + KEPT + bytes(len(KEPT) % 2)


def exif(orientation: int = 1) -> bytes:
    """A directory of the camera's maker and the orientation."""
    entries = struct.pack(">HHII", 0x010F, 2, len(MAKER), 38) + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"MM\0*\0\0\0\x08\0\x02" + entries + bytes(4) + MAKER


def photo() -> Image.Image:
    return Image.fromarray(synthetic_photo(12, 20))


class Blocks(NamedTuple):
    """What is put into a file."""

    exif: bytes | None = None
    iptc: bytes | None = None
    xmp: bytes | None = None


def check(data: bytes, blocks: Blocks, tmp_path) -> None:
    """All that is in the file is read, and written into formats that have a place for it."""
    picture = read_picture(data)
    assert picture.notes == ()
    assert (picture.exif is None, picture.iptc, picture.xmp is None) == (
        blocks.exif is None,
        blocks.iptc,
        blocks.xmp is None,
    )
    for target in ("png", "jpg", "tiff", "webp"):
        again = read_picture(encode_picture(replace(picture, texts=()), target))  # a comment may become EXIF's
        assert (blocks.exif is None) == (again.exif is None)
        assert blocks.exif is None or MAKER in again.exif
        assert blocks.xmp is None or CITY.encode() in again.xmp
        assert again.iptc == (None if target == "webp" else blocks.iptc)
        told = any("IPTC" in note for note in encoding_notes(picture, target))
        assert told == (target == "webp" and blocks.iptc is not None)
    (tmp_path / "x").write_bytes(data)
    facts = describe(tmp_path / "x")
    assert (facts["exif"], facts["xmp"]) == (blocks.exif is not None, blocks.xmp is not None)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def with_uuids(data: bytes, *uuids: bytes, behind: bool = False) -> bytes:
    """A JP2 with boxes of these contents before its codestream, or behind it."""
    at, more = data.index(b"jp2c") - 4, b"".join(box(b"uuid", content) for content in uuids)
    stream = box(b"jp2c", data[at + 8 :])  # its length may have been left open
    return data[:at] + (stream + more if behind else more + stream)


def jp2(*uuids: bytes, behind: bool = False) -> bytes:
    return with_uuids(encoded(photo(), "JPEG2000"), *uuids, behind=behind)


needs_jp2 = pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow without JPEG 2000")


@needs_jp2
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    ("uuids", "blocks"),
    [
        *(([uuid + exif()], Blocks(exif=exif())) for uuid in EXIF_UUIDS),
        ([EXIF_UUIDS[0] + b"Exif\0\0" + exif()], Blocks(exif=exif())),
        *(([uuid + KEPT], Blocks(iptc=KEPT)) for uuid in IPTC_UUIDS),
        ([XMP_UUID + XMP], Blocks(xmp=XMP)),
        ([PHOTOSHOP_UUID + RESOURCES], Blocks(iptc=KEPT)),
        ([b"another" * 3, XMP_UUID + XMP, EXIF_UUIDS[0] + exif(), IPTC_UUIDS[0] + KEPT], Blocks(exif(), KEPT, XMP)),
    ],
)
def test_jp2(uuids, blocks, behind, tmp_path):
    check(jp2(*uuids, behind=behind), blocks, tmp_path)


@needs_jp2
@pytest.mark.parametrize(
    "uuid", [EXIF_UUIDS[0] + exif(6), XMP_UUID + packet(attributes=' tiff:Orientation="6"').encode()]
)
def test_orientation_of_a_jp2(uuid):
    plain, turned = read_picture(jp2()), read_picture(jp2(uuid))
    assert (turned.width, turned.height) == (12, 20)
    assert np.array_equal(turned.pixels, np.rot90(plain.pixels, -1))
    assert read_header(jp2(uuid)).width == 12


@needs_jp2
@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (EXIF_UUIDS[0] + exif()[:20], ("its EXIF block is damaged and was dropped",)),
        (IPTC_UUIDS[0] + KEPT[:-1], ("its IPTC block is damaged and was dropped",)),
        (XMP_UUID + XMP[:60], ("its XMP packet is damaged and was dropped",)),
        (XMP_UUID, ()),
        (XMP_UUID[:9], ()),
    ],
)
def test_damaged_boxes_of_a_jp2_cost_only_themselves(content, notes):
    picture = read_picture(jp2(content))
    assert (picture.notes, picture.exif, picture.iptc, picture.xmp) == (notes, None, None, None)


@needs_jp2
@pytest.mark.parametrize("length", [1, 2**31, 2**32 - 1])
def test_a_box_that_claims_more_than_the_file_has(length):
    assert read_picture(jp2() + struct.pack(">I4s", length, b"uuid") + XMP_UUID + XMP).xmp is None


def psd(*resources: tuple[int, bytes], colours: bytes = b"", side: int | None = None) -> bytes:
    """A PSD without layers, with these image resources."""
    pixels = synthetic_photo(side or 12, side or 20)
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, *pixels.shape[:2], 8, 3)
    section = b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(content)) + content + bytes(len(content) % 2)
        for number, content in resources
    )
    sections = struct.pack(">I", len(colours)) + colours + struct.pack(">I", len(section)) + section + bytes(4)
    return header + sections + bytes(2) + pixels.transpose(2, 0, 1).tobytes()


@pytest.mark.parametrize("colours", [b"", bytes(16)])
@pytest.mark.parametrize(
    ("resources", "blocks"),
    [
        ([(1058, exif())], Blocks(exif=exif())),
        ([(1028, KEPT)], Blocks(iptc=KEPT)),
        ([(1060, XMP)], Blocks(xmp=XMP)),
        ([(1005, b"x" * 15), (1060, XMP), (1028, KEPT), (1058, exif()), (1061, bytes(16))], Blocks(exif(), KEPT, XMP)),
    ],
)
def test_psd(resources, blocks, colours, tmp_path):
    check(psd(*resources, colours=colours), blocks, tmp_path)


@pytest.mark.parametrize(
    ("resource", "notes"),
    [
        ((1058, exif()[:20]), ("its EXIF block is damaged and was dropped",)),
        ((1028, KEPT[:-1]), ("its IPTC block is damaged and was dropped",)),
        ((1060, XMP[:60]), ("its XMP packet is damaged and was dropped",)),
        ((1060, b""), ()),
    ],
)
def test_damaged_resources_of_a_psd_cost_only_themselves(resource, notes):
    picture = read_picture(psd(resource))
    assert (picture.notes, picture.exif, picture.iptc, picture.xmp) == (notes, None, None, None)


def raw_profile(kind: str, content: bytes) -> PngImagePlugin.PngInfo:
    """As ImageMagick writes it."""
    digits = content.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    texts = PngImagePlugin.PngInfo()
    texts.add_text(f"Raw profile type {kind}", "\n".join(["", kind, f"{len(content):8d}", *lines, ""]), zip=True)
    return texts


@pytest.mark.parametrize(
    ("kind", "content", "blocks"),
    [
        ("exif", b"Exif\0\0" + exif(), Blocks(exif=exif())),
        ("APP1", b"Exif\0\0" + exif(), Blocks(exif=exif())),
        ("APP1", b"http://ns.adobe.com/xap/1.0/\0" + XMP, Blocks(xmp=XMP)),
        ("xmp", XMP, Blocks(xmp=XMP)),
        ("xmp", XMP.decode().encode("utf-16"), Blocks(xmp=XMP)),
        ("iptc", KEPT, Blocks(iptc=KEPT)),
        ("iptc", RESOURCES, Blocks(iptc=KEPT)),
        ("8bim", RESOURCES, Blocks(iptc=KEPT)),
    ],
)
def test_raw_profiles_of_a_png(kind, content, blocks, tmp_path):
    check(encoded(photo(), "PNG", pnginfo=raw_profile(kind, content)), blocks, tmp_path)


def test_orientation_of_a_raw_profile():
    profile = raw_profile("APP1", b"Exif\0\0" + exif(6))
    assert read_picture(encoded(photo(), "PNG", pnginfo=profile)).width == 12


@pytest.mark.parametrize(("kind", "block"), [("xmp", "XMP packet"), ("exif", "EXIF block"), ("iptc", "IPTC block")])
@pytest.mark.parametrize("text", ["\n{}\n  4\nno digits", "\n{}\n  2\n2a2", ""])
def test_a_damaged_raw_profile_is_told(kind, block, text):
    texts = PngImagePlugin.PngInfo()
    texts.add_text(f"Raw profile type {kind}", text.format(kind))
    picture = read_picture(encoded(photo(), "PNG", pnginfo=texts))
    assert (picture.xmp, picture.exif, picture.iptc) == (None, None, None)
    assert picture.notes == ((f"its {block} is damaged and was dropped",) if text else ())


TRAILER = b"\1" + bytes(range(255, -1, -1)) + b"\0"
GIF_XMP = b"!\xff\x0bXMP DataXMP"
assert len(TRAILER) == 258


def gif(extension: bytes, place: str = "front", frames: int = 1) -> bytes:
    """A GIF with an extension before its first frame, or behind its last."""
    images = [photo().quantize(16).rotate(90 * k, expand=False) for k in range(frames)]
    data = encoded(images[0], "GIF", **({"save_all": True, "append_images": images[1:]} if frames > 1 else {}))
    return with_gif_extension(data, extension, place)


def with_gif_extension(data: bytes, extension: bytes, place: str = "front") -> bytes:
    at = 13 + (3 << (data[10] & 7) + 1) if place == "front" else len(data) - 1
    return data[:at] + extension + data[at:]


def in_blocks(packet: bytes) -> bytes:
    """As a writer does that takes the extension for an ordinary one."""
    parts = [packet[at : at + 255] for at in range(0, len(packet), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


@pytest.mark.parametrize("place", ["front", "end"])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("padding", range(0, 260, 20))
def test_gif(place, frames, padding, tmp_path):
    """Of any length: where the sub-blocks' chain meets the trailer depends on it."""
    data = gif(GIF_XMP + XMP + b" " * padding + TRAILER, place, frames)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == frames  # the trailer leads another reader back
    picture = read_picture(data, frames="first")
    assert picture.xmp is not None
    assert CITY.encode() in picture.xmp
    plain = read_picture(gif(b"", frames=frames), frames="first")
    assert np.array_equal(picture.pixels, plain.pixels)
    assert not any("XMP" in note for note in picture.notes)
    if frames == 1:
        check(data, Blocks(xmp=XMP), tmp_path)


def test_gif_whose_packet_is_in_blocks(tmp_path):
    check(gif(GIF_XMP + in_blocks(XMP + b" " * 300)), Blocks(xmp=XMP), tmp_path)


def test_gif_behind_other_extensions(tmp_path):
    others = b"!\xfe\x05hello\0" + b"!\xff\x0bNETSCAPE2.0\x03\1\0\0\0" + b"!\xff\x03abc\0"
    check(gif(others + GIF_XMP + XMP + TRAILER), Blocks(xmp=XMP), tmp_path)


def test_orientation_of_a_gif():
    data = gif(GIF_XMP + packet(attributes=' tiff:Orientation="6"').encode() + TRAILER)
    assert (read_picture(data).width, read_header(data).width) == (12, 12)


@pytest.mark.parametrize("cut", [1, 20, 200, 258])
def test_a_damaged_packet_of_a_gif_costs_only_itself(cut):
    data = gif(GIF_XMP + XMP + TRAILER, "end")
    picture = read_picture(data[: -1 - cut])
    assert picture.xmp is None or CITY.encode() in picture.xmp
    assert (picture.xmp is None) == (picture.notes == ("its XMP packet is damaged and was dropped",))
