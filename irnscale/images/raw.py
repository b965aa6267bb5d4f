"""Camera raw files, recognised by what is in them.

Most are TIFF files, or nearly, whose first picture is a small preview that a reader of pictures would take for the
photograph. The signatures are those that dcraw (Coffin, `identify`) and exiftool look for.
"""

from __future__ import annotations

from itertools import islice
from typing import BinaryIO

from irnscale.images.tiff_directories import Tags, directories

_HEADS = (
    (8, b"CR\x02"),  # Canon CR2, in a TIFF
    (8, b"IIIITwaR"),  # Phase One IIQ, in a TIFF
    (8, b"MMMMRawT"),
    (4, b"ftypcrx "),  # Canon CR3
    (6, b"HEAPCCDR"),  # Canon CRW
    (0, b"IIU\0"),  # Panasonic RW2, Leica RWL
    (0, b"IIRO"),  # Olympus ORF
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"FUJIFILMCCD-RAW"),
    (0, b"\0MRM"),  # Minolta
    (0, b"FOVb"),  # Sigma X3F
    (0, b"ARECOYK"),  # Contax
    (0, b"NOKIARAW"),
    (0, b"DSC-Image"),  # Rollei
    (0, b"PWAD"),  # Sinar
    (0, b"qktk"),  # Apple QuickTake
    (0, b"qktn"),
    (0, b"ARRI"),
    (4, b"RED1"),
    (4, b"RED2"),
)
_COMPRESSION, _PHOTOMETRIC, _DNG_VERSION = 259, 262, 50706
_OF_SENSORS = {32803, 34892}  # PhotometricInterpretation: colour filter array, linear raw
# Compression: Sony, packed by Nikon, Samsung, Nikon, Kodak, Pentax
_OF_CAMERAS = {32767, 32769, 32770, 32772, 34713, 65000, 65024, 65535}
_MOST_DIRECTORIES = 64


def is_camera_raw(file: BinaryIO) -> bool:
    """Whether a file, read from its beginning and left there, holds what a camera's sensor saw and not a picture."""
    head = file.read(32)
    try:
        if any(head[place : place + len(magic)] == magic for place, magic in _HEADS):
            return True
        return any(_of_a_sensor(tags) for tags in islice(directories(file, nested=True), _MOST_DIRECTORIES))
    finally:
        file.seek(0)


def _of_a_sensor(tags: Tags) -> bool:
    photometric, compression = tags.get(_PHOTOMETRIC, ()), tags.get(_COMPRESSION, ())
    return _DNG_VERSION in tags or not (_OF_SENSORS.isdisjoint(photometric) and _OF_CAMERAS.isdisjoint(compression))
