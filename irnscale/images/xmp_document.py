"""XMP packets as documents: read from bytes that nobody vouches for, and written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMLNS = "http://www.w3.org/2000/xmlns/"
MAX_PACKET = 2**24
"""Bytes of a packet, with what extends it."""
_MOST_LEVELS = 200
_MOST_TAGS, _MOST_QUOTES = 200_000, 400_000  # each element and attribute becomes an object of half a kilobyte
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_TAIL = '<?xpacket end="w"?>'
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


class EmptyPacketError(ValueError):
    """A packet without anything in it."""


class TooLargeError(ValueError):
    """A packet that is not read, sound or not."""


class PlainText(minidom.Text):
    """Text that keeps its quotation marks, which XML asks to be written as entities in attributes alone.

    The record is full of them: a quarter of its bytes, in files that may have a few thousand.
    """

    def writexml(self, writer: Any, indent: str = "", addindent: str = "", newl: str = "") -> None:
        """Write the text to `writer`; `minidom` calls it with these arguments."""
        writer.write(indent + escape(self.data) + newl)


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


def parsed(packet: bytes) -> minidom.Document:
    """Raises ValueError unless the packet is XML with an rdf:RDF and without a document type."""
    if len(packet) > MAX_PACKET:
        raise TooLargeError("the XMP packet is too large")
    packet = as_utf8(packet).strip(b"\0 \r\n\t")
    if packet.count(b"<") > _MOST_TAGS or packet.count(b'"') + packet.count(b"'") > _MOST_QUOTES:
        raise TooLargeError("the XMP packet has too many parts")
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        raise ValueError("the XMP packet declares entities")  # the way to XML bombs; XMP never needs it
    try:
        document = minidom.parseString(packet)
    except (ExpatError, ValueError, LookupError, RecursionError) as error:
        raise ValueError("the XMP packet is not well-formed") from error
    _check_depth(document)
    rdf_of(document)
    return document


def _check_depth(document: minidom.Document) -> None:
    """Raise ValueError where elements are nested deeper than the recursion of `minidom` may go."""
    level: list[minidom.Node] = [document]
    for _ in range(_MOST_LEVELS):
        level = [child for node in level for child in node.childNodes]
        if not level:
            return
    raise ValueError("the XMP packet is nested too deeply")


def rdf_of(document: minidom.Document) -> minidom.Element:
    """The element that holds the descriptions. Raises ValueError where there is none."""
    found = document.getElementsByTagNameNS(RDF, "RDF")
    if not found and document.documentElement is not None and not document.documentElement.childNodes:
        raise EmptyPacketError("the XMP packet says nothing")
    if not found:
        raise ValueError("the XMP packet has no rdf:RDF")
    return found[0]


def elements(document: minidom.Document) -> Iterator[minidom.Element]:
    """All elements of the document, the outermost first."""
    yield from document.getElementsByTagName("*")


def drop_empty(rdf: minidom.Element) -> None:
    """Remove descriptions that say nothing."""
    for description in [node for node in rdf.childNodes if isinstance(node, minidom.Element)]:
        if _says_nothing(description):
            remove(description)


def _says_nothing(description: minidom.Element) -> bool:
    """Whether a description has neither properties as elements nor as attributes."""
    if any(isinstance(node, minidom.Element) for node in description.childNodes):
        return False
    ignored: Collection[str] = (XMLNS, RDF)
    return all(space in ignored for space, _ in description.attributes.keysNS())


def remove(element: minidom.Element) -> None:
    """Take an element out of its document."""
    if element.parentNode is not None:
        element.parentNode.removeChild(element)


def text_of(element: minidom.Element) -> str:
    """What stands in an element, without its children's."""
    return "".join(node.data for node in element.childNodes if isinstance(node, minidom.Text))


def set_text(document: minidom.Document, element: minidom.Element, text: str) -> None:
    """Text in the place of whatever the element holds."""
    while element.firstChild is not None:
        element.removeChild(element.firstChild)
    element.appendChild(document.createTextNode(text))


def properties(rdf: minidom.Element) -> Iterator[tuple[minidom.Element, minidom.Element | minidom.Attr]]:
    """(description, property) of all descriptions; a property is an element, or an attribute of the description."""
    for description in [node for node in rdf.childNodes if isinstance(node, minidom.Element)]:
        for space, name in list(description.attributes.keysNS()):
            if space not in (XMLNS, RDF) and (attribute := description.getAttributeNodeNS(space, name)) is not None:
                yield description, attribute
        for node in list(description.childNodes):
            if isinstance(node, minidom.Element):
                yield description, node


def remove_property(description: minidom.Element, found: minidom.Element | minidom.Attr) -> None:
    """Take out what `properties` gave."""
    if isinstance(found, minidom.Attr):
        description.removeAttributeNode(found)
    else:
        remove(found)


def serialised(document: minidom.Document, *, wrapped: bool = True) -> bytes:
    """In UTF-8, with the processing instructions that say so, or without."""
    root = document.documentElement
    assert root is not None
    text = root.toxml()
    return (_HEAD + text + _TAIL if wrapped else text).encode()
