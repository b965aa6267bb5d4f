"""XMP packets: our record put in and taken out, and what no longer fits the pixels removed."""

from __future__ import annotations

from collections.abc import Iterator
from xml.dom import minidom

from irnscale.images.xmp_document import (
    RDF,
    EmptyPacketError,
    PlainText,
    drop_empty,
    elements,
    parsed,
    rdf_of,
    remove,
    serialised,
    set_text,
    text_of,
)

NAMESPACE = "https://irnscale.invalid/ns/1.0/"
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
# Gain maps, second pictures, depth, sound and motion: stored behind the primary picture, or in the packet itself.
_SECOND_PICTURE = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    *(f"http://ns.google.com/photos/1.0/{name}/" for name in ("container", "camera", "image", "depthmap", "audio")),
    "http://ns.google.com/photos/dd/1.0/",
)
_FRESH = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta>'


def upright_xmp(packet: bytes) -> bytes | None:
    """The packet with orientation 1, without sizes, thumbnails and our record; None if nothing is left.

    Raises ValueError where it cannot be parsed.
    """
    try:
        document = parsed(packet)
    except EmptyPacketError:
        return None
    for element in list(elements(document)):
        for space, name in list(element.attributes.keysNS()):
            if _is_stale(space, name):
                element.removeAttributeNS(space, name)
            elif (space, name) == (_TIFF, "Orientation") and (attribute := element.getAttributeNodeNS(space, name)):
                attribute.value = "1"
        if _is_stale(element.namespaceURI, element.localName):
            remove(element)
        elif (element.namespaceURI, element.localName) == (_TIFF, "Orientation"):
            set_text(document, element, "1")
    rdf = rdf_of(document)
    drop_empty(rdf)
    return serialised(document) if any(isinstance(node, minidom.Element) for node in rdf.childNodes) else None


def xmp_orientation(packet: bytes) -> int | None:
    """The orientation, 1 to 8, that a packet in UTF-8 states; None where it states none or cannot be parsed."""
    stated = _stated(packet, _TIFF, "Orientation") if b"Orientation" in packet else ()
    return next((int(value) for value in stated if value.strip() in tuple("12345678")), None)


def names_second_picture(packet: bytes) -> bool:
    """Whether the packet speaks of something that is stored with the primary picture, which alone is kept."""
    return any(space.encode() in packet for space in _SECOND_PICTURE)


def record_in_xmp(packet: bytes) -> str | None:
    """The text of our record, as an attribute or an element; None where there is none."""
    return next(_stated(packet, NAMESPACE, "record"), None) if NAMESPACE.encode() in packet else None


def _stated(packet: bytes, space: str, name: str) -> Iterator[str]:
    """What the attributes and elements of a name say, in their order; nothing where the packet cannot be parsed."""
    try:
        document = parsed(packet)
    except ValueError:
        return
    for element in elements(document):
        if element.hasAttributeNS(space, name):
            yield str(element.getAttributeNS(space, name))
        if (element.namespaceURI, element.localName) == (space, name):
            yield text_of(element)


def xmp_with_record(packet: bytes | None, record: str) -> bytes:
    """The packet with `record` added; a fresh packet where there is none or it cannot be parsed."""
    try:
        document = parsed(packet) if packet else parsed(_FRESH.encode())
        rdf = rdf_of(document)
    except ValueError:
        document = parsed(_FRESH.encode())
        rdf = rdf_of(document)
    for element in list(elements(document)):
        if element.hasAttributeNS(NAMESPACE, "record"):
            element.removeAttributeNS(NAMESPACE, "record")
        if element.namespaceURI == NAMESPACE:
            remove(element)
    drop_empty(rdf)
    first = next((node for node in rdf.childNodes if isinstance(node, minidom.Element)), None)
    description = document.createElementNS(RDF, "rdf:Description")
    description.setAttribute("xmlns:rdf", RDF)
    # All descriptions of a packet must name the same subject.
    description.setAttributeNS(RDF, "rdf:about", first.getAttributeNS(RDF, "about") if first else "")
    property_ = document.createElementNS(NAMESPACE, "irnscale:record")
    property_.setAttribute("xmlns:irnscale", NAMESPACE)
    text = PlainText()
    text.data, text.ownerDocument = record, document
    property_.appendChild(text)
    description.appendChild(property_)
    rdf.appendChild(description)
    return serialised(document)


def _is_stale(space: str | None, name: str | None) -> bool:
    return (space, name) in _STALE or space == NAMESPACE or (space or "").startswith(_SECOND_PICTURE)
