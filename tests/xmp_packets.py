"""XMP packets for tests, and JPEG segments that hold them."""

from __future__ import annotations

import struct

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TIFF = "http://ns.adobe.com/tiff/1.0/"
NOTE = "http://ns.adobe.com/xmp/note/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
DC = "http://purl.org/dc/elements/1.1/"


def packet(inside: str = "", attributes: str = "", about: str = "") -> str:
    """A packet of one description, with the usual prefixes."""
    spaces = "".join(
        f' xmlns:{prefix}="{space}"'
        for prefix, space in (("tiff", TIFF), ("xmpNote", NOTE), ("photoshop", PHOTOSHOP), ("dc", DC))
    )
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="{about}"{spaces}'
        f"{attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def wrapped(text: str) -> str:
    """With the processing instructions around it."""
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{text}   \n<?xpacket end="w"?>'


def app1(content: bytes) -> bytes:
    """A JPEG's segment."""
    return b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content
