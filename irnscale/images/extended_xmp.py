"""XMP of a JPEG that is longer than a marker segment: a packet, and segments that extend it.

Adobe XMP Specification Part 3, 1.1.3.1, "Extended XMP in JPEG".
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING
from xml.dom import minidom

from irnscale.images.jpeg_segments import APP1, ROOM, XMP_IDENTIFIER, segment
from irnscale.images.stored import stored_segments
from irnscale.images.xmp import NAMESPACE
from irnscale.images.xmp_document import (
    MAX_PACKET,
    RDF,
    XMLNS,
    drop_empty,
    parsed,
    properties,
    rdf_of,
    remove_property,
    serialised,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL import Image

_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_MAIN_ROOM = ROOM - len(XMP_IDENTIFIER) - 2
_HEAD = struct.Struct(">32sII")  # digest of the whole, its length, offset of this part
_PART_ROOM = 65400  # as the specification advises
_NOTE = "http://ns.adobe.com/xmp/note/"
_LINK = "HasExtendedXMP"
_TIFF = "http://ns.adobe.com/tiff/1.0/"


def with_extension(image: Image.Image, packet: bytes | None) -> tuple[bytes | None, str | None]:
    """The packet of an opened JPEG together with what extends it, and a note where that had to be dropped.

    Other formats' packets are given back as they are.
    """
    parts = stored_segments(image, APP1, _EXTENSION)
    if not parts:
        return packet, None
    if packet is None:
        return None, "its Extended XMP belongs to no packet and was dropped"
    try:
        return _merged(packet, _joined(parts, _link(packet))), None
    except ValueError:
        return packet, "its Extended XMP is damaged, or more than 16 MiB, and was dropped"


def xmp_segments(packet: bytes) -> bytes | None:
    """The JPEG marker segments that hold a packet; None where it is too long for one and cannot be divided."""
    if len(packet) <= _MAIN_ROOM:
        return segment(APP1, XMP_IDENTIFIER + packet)
    try:
        main, extension = _divided(packet)
    except ValueError:
        return None
    digest = _digest(extension)
    segments = [segment(APP1, XMP_IDENTIFIER + main)]
    for at in range(0, len(extension), _PART_ROOM):
        head = _HEAD.pack(digest, len(extension), at)
        segments.append(segment(APP1, _EXTENSION + head + extension[at : at + _PART_ROOM]))
    return b"".join(segments)


def _digest(extension: bytes) -> bytes:
    return hashlib.md5(extension, usedforsecurity=False).hexdigest().upper().encode()


def _joined(parts: Iterable[bytes], digest: bytes) -> bytes:
    """The extension of this digest. Raises ValueError where a part of it is missing."""
    found: dict[int, bytes] = {}
    whole = 0
    for part in parts:
        if len(part) < _HEAD.size:
            continue
        of, length, at = _HEAD.unpack_from(part)
        if of.upper() == digest:
            found[at], whole = part[_HEAD.size :], length
    if not 0 < whole <= MAX_PACKET:
        raise ValueError("no extension of a sensible length")
    joined = bytearray()
    for at in sorted(found):
        if at > len(joined):
            raise ValueError("a part of the extension is missing")
        joined[at:] = found[at]
    if len(joined) != whole:
        raise ValueError("a part of the extension is missing")
    return bytes(joined)


def _link(packet: bytes) -> bytes:
    """The digest that a packet names. Raises ValueError where it names none."""
    for _, found in properties(rdf_of(parsed(packet))):
        if (found.namespaceURI, found.localName) == (_NOTE, _LINK):
            return _value(found).strip().upper().encode()
    raise ValueError("the packet names no extension")


def _value(found: minidom.Element | minidom.Attr) -> str:
    if isinstance(found, minidom.Attr):
        return str(found.value)
    return text_of(found)


def _merged(packet: bytes, extension: bytes) -> bytes:
    """One packet; of a property that both have, the packet's. Raises ValueError where one cannot be parsed."""
    document, other = parsed(packet), parsed(extension)
    rdf = rdf_of(document)
    known = {(found.namespaceURI, found.localName) for _, found in properties(rdf)}
    source = rdf_of(other)
    for description, found in list(properties(source)):
        if (found.namespaceURI, found.localName) in known:
            remove_property(description, found)
    drop_empty(source)
    first = next((node for node in rdf.childNodes if isinstance(node, minidom.Element)), None)
    about = first.getAttributeNS(RDF, "about") if first is not None else ""
    for description in [node for node in source.childNodes if isinstance(node, minidom.Element)]:
        for name, uri in _prefixes(source).items():
            if not description.hasAttribute(name):
                description.setAttributeNS(XMLNS, name, uri)
        about_name = next((a.name for a in description.attributes.values() if _is_about(a)), None)
        if about_name is not None:
            description.setAttributeNS(RDF, about_name, about)  # one packet has one subject
        source.removeChild(description)
        rdf.appendChild(document.importNode(description, deep=True))
    return serialised(document)


def _is_about(attribute: minidom.Attr) -> bool:
    return (attribute.namespaceURI, attribute.localName) == (RDF, "about")


def _prefixes(element: minidom.Element) -> dict[str, str]:
    """The namespaces declared at an element and around it: attribute name -> URI."""
    found: dict[str, str] = {}
    node: minidom.Node | None = element
    while isinstance(node, minidom.Element):
        for attribute in node.attributes.values():
            if attribute.namespaceURI == XMLNS:
                found.setdefault(attribute.name, attribute.value)
        node = node.parentNode
    return found


def _divided(packet: bytes) -> tuple[bytes, bytes]:
    """(main, extension): the longest properties move to the extension until the rest fits. Raises ValueError."""
    document, other = parsed(packet), parsed(packet)  # the same properties in the same order
    pairs = list(zip(properties(rdf_of(document)), properties(rdf_of(other)), strict=True))
    pairs.sort(key=lambda pair: _length(pair[0][1]), reverse=True)
    if not pairs:
        raise ValueError("nothing in the packet can move")
    description = next(node for node in rdf_of(document).childNodes if isinstance(node, minidom.Element))
    description.setAttributeNS(XMLNS, "xmlns:xmpNote", _NOTE)
    description.setAttributeNS(_NOTE, f"xmpNote:{_LINK}", "0" * 32)
    size, moved = len(serialised(document)), 0
    for (own, kept), (theirs, copy) in pairs:
        stays = kept.namespaceURI == NAMESPACE or (kept.namespaceURI, kept.localName) == (_TIFF, "Orientation")
        if stays or size <= _MAIN_ROOM:
            remove_property(theirs, copy)
        else:
            size -= _length(kept)
            moved += 1
            remove_property(own, kept)
    drop_empty(rdf_of(other))
    extension = serialised(other, wrapped=False)
    description.setAttributeNS(_NOTE, f"xmpNote:{_LINK}", _digest(extension).decode())
    main = serialised(document)
    if not moved or len(main) > _MAIN_ROOM:
        raise ValueError("what is left of the packet is too long")
    return main, extension


def _length(found: minidom.Element | minidom.Attr) -> int:
    """At most the bytes of a property."""
    if isinstance(found, minidom.Attr):
        return len(found.name.encode()) + len(found.value.encode()) + 4
    return len(found.toxml().encode())
