"""Extended XMP in JPEG: joined when read, whatever the order of its parts, and written where a packet is too long."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from xml.etree import ElementTree

import pytest
from conftest import synthetic_photo
from PIL import Image
from test_images_provenance import RECORD
from test_images_read import encoded
from xmp_packets import DC, NOTE, PHOTOSHOP, RDF, app1, packet, wrapped

from irnscale.images.read import read_header, read_picture
from irnscale.images.write import encode_picture, encoding_notes

STANDARD, EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
DROPPED = ("its Extended XMP is damaged, or more than 16 MiB, and was dropped",)
CITY, HISTORY = "<photoshop:City>Paris</photoshop:City>", f"<photoshop:History>{'abc ' * 30_000}</photoshop:History>"


def photo() -> Image.Image:
    return Image.fromarray(synthetic_photo(12, 20))


def digest(extension: str) -> str:
    return hashlib.md5(extension.encode()).hexdigest().upper()


def linked(extension: str, inside: str = CITY) -> str:
    """A packet that names its extension."""
    return packet(inside, f' xmpNote:HasExtendedXMP="{digest(extension)}"', about="uuid:1")


def parts(extension: str, size: int = 65_400, name: str | None = None) -> list[bytes]:
    data, name = extension.encode(), name or digest(extension)
    return [
        app1(EXTENSION + name.encode() + struct.pack(">II", len(data), at) + data[at : at + size])
        for at in range(0, len(data), size)
    ]


def jpeg(main: str | None, extensions: list[bytes]) -> bytes:
    own = [] if main is None else [app1(STANDARD + wrapped(main).encode())]
    return encoded(photo(), "JPEG", extra=b"".join([*own, *extensions]))


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """(marker, content) of a JPEG before its scan, read apart from the program."""
    found, at = [], 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        found.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return found


def said(xml: bytes) -> dict[str, str]:
    """The simple properties of a packet, by their name."""
    text = xml.decode().replace("\ufeff", "")
    found = {}
    for description in ElementTree.fromstring(text).iter(f"{{{RDF}}}Description"):
        found |= {name: value for name, value in description.attrib.items() if not name.startswith(f"{{{RDF}}}")}
        found |= {child.tag: "".join(child.itertext()) for child in description}
    return found


EXTENDED = packet(HISTORY)


@pytest.mark.parametrize(
    "main", [linked(EXTENDED), linked(EXTENDED).replace(digest(EXTENDED), digest(EXTENDED).lower())]
)
@pytest.mark.parametrize("order", [lambda all_: all_, lambda all_: all_[::-1]], ids=["forwards", "backwards"])
@pytest.mark.parametrize("size", [65_400, 20_000])
def test_parts_are_joined(main, order, size):
    picture = read_picture(jpeg(main, order(parts(EXTENDED, size))))
    assert picture.notes == ()
    assert said(picture.xmp) == {f"{{{PHOTOSHOP}}}City": "Paris", f"{{{PHOTOSHOP}}}History": "abc " * 30_000}
    subjects = {d.get(f"{{{RDF}}}about") for d in ElementTree.fromstring(picture.xmp.decode().replace("\ufeff", ""))[0]}
    assert subjects == {"uuid:1"}


def test_parts_between_and_before_other_segments():
    """As the specification allows: not in a row, some before the packet, some of another extension."""
    of_another = parts(packet("<dc:title>x</dc:title>"))
    own = parts(EXTENDED, 30_000)
    main = app1(STANDARD + linked(EXTENDED).encode())
    data = encoded(photo(), "JPEG", extra=b"".join([own[0], main, *of_another, *own[1:]]))
    picture = read_picture(data)
    assert picture.notes == ()
    assert f"{{{PHOTOSHOP}}}History" in said(picture.xmp)
    assert b"dc:title" not in picture.xmp


def test_prefixes_declared_outside_of_the_description():
    extension = (
        f'<m xmlns:p="{PHOTOSHOP}"><R:RDF xmlns:R="{RDF}" xmlns:d="{DC}"><R:Description R:about="">'
        f"<p:History>h</p:History><d:source>s</d:source></R:Description></R:RDF></m>"
    )
    picture = read_picture(jpeg(linked(extension), parts(extension)))
    expected = {f"{{{PHOTOSHOP}}}City": "Paris", f"{{{PHOTOSHOP}}}History": "h", f"{{{DC}}}source": "s"}
    assert said(picture.xmp) == expected


def test_of_a_property_that_is_in_both_the_packets_counts():
    extension = packet("<photoshop:City>Rome</photoshop:City><photoshop:Source>s</photoshop:Source>")
    picture = read_picture(jpeg(linked(extension), parts(extension)))
    assert said(picture.xmp) == {f"{{{PHOTOSHOP}}}City": "Paris", f"{{{PHOTOSHOP}}}Source": "s"}


def test_depth_maps_and_second_pictures_are_told():
    space = "http://ns.google.com/photos/1.0/depthmap/"
    extension = packet(CITY, f' xmlns:GDepth="{space}" GDepth:Data="{"A" * 200_000}"')
    picture = read_picture(jpeg(linked(extension, ""), parts(extension)))
    assert said(picture.xmp) == {f"{{{PHOTOSHOP}}}City": "Paris"}
    assert len(picture.notes) == 1
    assert "depth map" in picture.notes[0]


@pytest.mark.parametrize(
    "extensions",
    {
        "a part is missing": parts(EXTENDED)[1:],
        "the last is missing": parts(EXTENDED)[:-1],
        "another name": parts(EXTENDED, name="0" * 32),
        "a length that is not": [app1(EXTENSION + digest(EXTENDED).encode() + b"\xff\xff\xff\xff" + bytes(4) + b"x")],
        "an offset beyond": [app1(EXTENSION + digest(EXTENDED).encode() + b"\0\0\1\0\xff\xff\xff\0" + b"x")],
        "no head": [app1(EXTENSION + b"x")],
        "no XML": [app1(EXTENSION + digest(EXTENDED).encode() + b"\0\0\0\1" + bytes(4) + b"x")],
    }.items(),
    ids=lambda named: named[0],
)
def test_a_damaged_extension_costs_only_itself(extensions):
    picture = read_picture(jpeg(linked(EXTENDED), extensions[1]))
    assert said(picture.xmp) == {f"{{{PHOTOSHOP}}}City": "Paris"}
    assert picture.notes == DROPPED


def test_an_extension_without_a_packet():
    picture = read_picture(jpeg(None, parts(EXTENDED)))
    assert (picture.xmp, picture.notes) == (None, ("its Extended XMP belongs to no packet and was dropped",))


LONG_ATTRIBUTE = packet(CITY, f' photoshop:History="{"x" * 70_000}" tiff:Orientation="1"')
LONG = {
    "an element": packet(CITY + HISTORY),
    "an attribute": LONG_ATTRIBUTE,
    "many": packet("".join(f"<dc:p{k}>{'y' * 900}</dc:p{k}>" for k in range(200))),
    "not in Latin letters": packet(CITY + f"<photoshop:History>{'東' * 30_000}</photoshop:History>"),
    "two descriptions": packet(CITY + HISTORY).replace(
        "</rdf:RDF>", f'<rdf:Description rdf:about="" xmlns:a="b:c" a:d="{"z" * 66_000}"/></rdf:RDF>'
    ),
}


@pytest.mark.parametrize("record", [None, RECORD])
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_packet_is_written_in_parts(text, record):
    plain = read_picture(encoded(photo(), "PNG"))
    picture = dataclasses.replace(plain, xmp=wrapped(text).encode())
    assert encoding_notes(picture, "jpg") == ()
    data = encode_picture(picture, "jpg", record=record)
    contents = [content for marker, content in segments(data) if marker == 0xE1]
    (main,) = [content.removeprefix(STANDARD) for content in contents if content.startswith(STANDARD)]
    assert len(main) <= 65_502
    assert contents[0].startswith(STANDARD)
    pieces = [content.removeprefix(EXTENSION) for content in contents if content.startswith(EXTENSION)]
    extension = b"".join(piece[40:] for piece in pieces)
    name = said(main).pop(f"{{{NOTE}}}HasExtendedXMP")
    assert name == hashlib.md5(extension).hexdigest().upper()
    place = 0
    for piece in pieces:
        assert piece[:40] == name.encode() + struct.pack(">II", len(extension), place)
        place += len(piece) - 40
    assert b"<?xpacket" not in extension
    together = {**said(main), **said(extension)}
    together.pop(f"{{{NOTE}}}HasExtendedXMP")
    assert {key: value for key, value in together.items() if "irnscale" not in key} == said(text.encode())
    assert len(said(main).keys() & said(extension).keys()) == 0
    again = read_picture(data)
    assert again.notes == ()
    assert said(again.xmp) == said(text.encode())
    assert again.record == record
    assert read_header(data).record == record


def test_a_short_packet_is_not():
    plain = read_picture(encoded(photo(), "PNG"))
    assert EXTENSION not in encode_picture(dataclasses.replace(plain, xmp=packet(CITY).encode()), "jpg")


@pytest.mark.parametrize("target", ["png", "webp", "tiff", "avif"])
def test_other_formats_hold_it_whole(target):
    picture = read_picture(jpeg(linked(EXTENDED), parts(EXTENDED)))
    assert said(read_picture(encode_picture(picture, target)).xmp) == said(picture.xmp)


@pytest.mark.parametrize("inside", ["<a/>" * 250_000, "<dc:p " + "".join(f"a{k}='' " for k in range(250_000)) + "/>"])
def test_packets_of_too_many_parts_are_not_built(inside):
    extension = packet(inside)
    assert read_picture(jpeg(linked(extension), parts(extension))).notes == DROPPED


def test_packets_nested_too_deeply():
    deep = packet("<a>" * 5000 + "</a>" * 5000)
    assert read_picture(jpeg(linked(deep), parts(deep))).notes == DROPPED
    picture = read_picture(encoded(photo(), "JPEG", xmp=deep.encode()))
    assert (picture.xmp, picture.notes) == (None, ("its XMP packet is damaged and was dropped",))
