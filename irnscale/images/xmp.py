"""XMP packets: our record put in and taken out, and what no longer fits the pixels removed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

NAMESPACE = "https://irnscale.invalid/ns/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_STALE = {
    *((_TIFF, name) for name in ("ImageWidth", "ImageLength")),
    *((_EXIF, name) for name in ("PixelXDimension", "PixelYDimension")),
    (_XMP, "Thumbnails"),
    (_NOTE, "HasExtendedXMP"),
}
# Gain maps, second pictures and motion: all stored behind the primary picture, which alone is kept.
_SECOND_PICTURE = {
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/camera/",
}
MAX_PACKET = 4 * 1024 * 1024
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_TAIL = '<?xpacket end="w"?>'
_FRESH = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'
_MARKS = (
    *((b"\xff\xfe\0\0", "utf-32-le"), (b"\0\0\xfe\xff", "utf-32-be")),
    *((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")),
)
_ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
}
_DECLARATION = re.compile(r"<\?xml\s[^>]*>")


class _EmptyError(ValueError):
    """A packet without anything in it."""


def upright_xmp(packet: bytes) -> bytes | None:
    """The packet with orientation 1, without sizes, thumbnails and our record; None if nothing is left.

    Raises ValueError where it cannot be parsed.
    """
    try:
        document = _parse(packet)
    except _EmptyError:
        return None
    for element in list(_elements(document)):
        for space, name in list(element.attributes.keysNS()):
            if _is_stale(space, name):
                element.removeAttributeNS(space, name)
            elif (space, name) == (_TIFF, "Orientation") and (attribute := element.getAttributeNodeNS(space, name)):
                attribute.value = "1"
        if _is_stale(element.namespaceURI, element.localName):
            _remove(element)
        elif (element.namespaceURI, element.localName) == (_TIFF, "Orientation"):
            _set_text(document, element, "1")
    rdf = _rdf(document)
    _drop_empty(rdf)
    return _serialise(document) if any(isinstance(node, minidom.Element) for node in rdf.childNodes) else None


def as_utf8(packet: bytes) -> bytes:
    """The packet in UTF-8, of one in UTF-16 or UTF-32 of either byte order, with a byte order mark or without.

    Raises ValueError where it is none of them.
    """
    encoding = next((name for mark, name in _MARKS if packet.startswith(mark)), None)
    if encoding is None:
        encoding = _ZEROS.get(tuple(byte == 0 for byte in packet[:4]))  # those of "<x" or "<?"
    if encoding is None:
        return packet
    unit = 4 if "32" in encoding else 2
    text = packet[: len(packet) // unit * unit].decode(encoding).strip("\ufeff\0 \r\n\t")
    return _DECLARATION.sub("", text, count=1).encode()


def xmp_orientation(packet: bytes) -> int | None:
    """The orientation, 1 to 8, that a packet in UTF-8 states; None where it states none or cannot be parsed."""
    if b"Orientation" not in packet:
        return None
    try:
        document = _parse(packet)
    except ValueError:
        return None
    for element in _elements(document):
        value = element.getAttributeNS(_TIFF, "Orientation")
        if (element.namespaceURI, element.localName) == (_TIFF, "Orientation"):
            value = "".join(node.data for node in element.childNodes if isinstance(node, minidom.Text))
        if value.strip() in tuple("12345678"):
            return int(value)
    return None


def names_second_picture(packet: bytes) -> bool:
    """Whether the packet speaks of a gain map or a second picture stored behind the primary one."""
    return any(space.encode() in packet for space in _SECOND_PICTURE)


def record_in_xmp(packet: bytes) -> str | None:
    """The text of our record, as an attribute or an element; None where there is none."""
    if NAMESPACE.encode() not in packet:
        return None
    try:
        document = _parse(packet)
    except ValueError:
        return None
    for element in _elements(document):
        if element.hasAttributeNS(NAMESPACE, "record"):
            return str(element.getAttributeNS(NAMESPACE, "record"))
        if (element.namespaceURI, element.localName) == (NAMESPACE, "record"):
            return "".join(node.data for node in element.childNodes if isinstance(node, minidom.Text))
    return None


def xmp_with_record(packet: bytes | None, record: str) -> bytes:
    """The packet with `record` added; a fresh packet where there is none or it cannot be parsed."""
    try:
        document = _parse(packet) if packet else _parse(_FRESH.encode())
        rdf = _rdf(document)
    except ValueError:
        document = _parse(_FRESH.encode())
        rdf = _rdf(document)
    for element in list(_elements(document)):
        if element.hasAttributeNS(NAMESPACE, "record"):
            element.removeAttributeNS(NAMESPACE, "record")
        if element.namespaceURI == NAMESPACE:
            _remove(element)
    _drop_empty(rdf)
    first = next((node for node in rdf.childNodes if isinstance(node, minidom.Element)), None)
    description = document.createElementNS(_RDF, "rdf:Description")
    description.setAttribute("xmlns:rdf", _RDF)
    # All descriptions of a packet must name the same subject.
    description.setAttributeNS(_RDF, "rdf:about", first.getAttributeNS(_RDF, "about") if first else "")
    property_ = document.createElementNS(NAMESPACE, "irnscale:record")
    property_.setAttribute("xmlns:irnscale", NAMESPACE)
    text = _Text()
    text.data, text.ownerDocument = record, document
    property_.appendChild(text)
    description.appendChild(property_)
    rdf.appendChild(description)
    return _serialise(document)


class _Text(minidom.Text):
    """Text that keeps its quotation marks, which XML asks to be written as entities in attributes alone.

    The record is full of them: a quarter of its bytes, in files that may have a few thousand.
    """

    def writexml(self, writer: Any, indent: str = "", addindent: str = "", newl: str = "") -> None:
        """As `minidom` calls it."""
        writer.write(indent + escape(self.data) + newl)


def _parse(packet: bytes) -> minidom.Document:
    """Raises ValueError unless the packet is XML with an rdf:RDF and without a document type."""
    if len(packet) > MAX_PACKET:
        raise ValueError("the XMP packet is too large")
    packet = as_utf8(packet).strip(b"\0 \r\n\t")
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        raise ValueError("the XMP packet declares entities")  # the way to XML bombs; XMP never needs it
    try:
        document = minidom.parseString(packet)
    except (ExpatError, ValueError, LookupError, RecursionError) as error:
        raise ValueError("the XMP packet is not well-formed") from error
    _rdf(document)
    return document


def _rdf(document: minidom.Document) -> minidom.Element:
    found = document.getElementsByTagNameNS(_RDF, "RDF")
    if not found and document.documentElement is not None and not document.documentElement.childNodes:
        raise _EmptyError("the XMP packet says nothing")
    if not found:
        raise ValueError("the XMP packet has no rdf:RDF")
    return found[0]


def _elements(document: minidom.Document) -> Iterator[minidom.Element]:
    yield from document.getElementsByTagName("*")


def _is_stale(space: str | None, name: str | None) -> bool:
    return (space, name) in _STALE or space == NAMESPACE or space in _SECOND_PICTURE


def _drop_empty(rdf: minidom.Element) -> None:
    for description in [node for node in rdf.childNodes if isinstance(node, minidom.Element)]:
        if _says_nothing(description):
            _remove(description)


def _says_nothing(description: minidom.Element) -> bool:
    """Whether a description has neither properties as elements nor as attributes."""
    if any(isinstance(node, minidom.Element) for node in description.childNodes):
        return False
    ignored: Collection[str] = ("http://www.w3.org/2000/xmlns/", _RDF)
    return all(space in ignored for space, _ in description.attributes.keysNS())


def _remove(element: minidom.Element) -> None:
    if element.parentNode is not None:
        element.parentNode.removeChild(element)


def _set_text(document: minidom.Document, element: minidom.Element, text: str) -> None:
    while element.firstChild is not None:
        element.removeChild(element.firstChild)
    element.appendChild(document.createTextNode(text))


def _serialise(document: minidom.Document) -> bytes:
    root = document.documentElement
    assert root is not None
    return (_HEAD + root.toxml() + _TAIL).encode()
