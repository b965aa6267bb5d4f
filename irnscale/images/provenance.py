"""Finding the record that `down` and `up` leave in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irnscale.errors import InputError
from irnscale.images.opening import open_source
from irnscale.images.record import KEYWORD, Provenance
from irnscale.images.stored import stored_texts, stored_xmp
from irnscale.images.xmp import record_in_xmp

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image


def read_provenance(source: Path | bytes) -> Provenance | None:
    """The record in a file, without decoding its pixels; None where there is none that is valid.

    A file that is not a picture, or may not be read, has no record. Raises InputError where there is
    no file.
    """
    try:
        with open_source(source) as image:
            return find_record(image)[0]
    except InputError:
        if not isinstance(source, bytes) and not source.is_file():
            raise
        return None


def find_record(image: Image.Image) -> tuple[Provenance | None, str | None]:
    """The record of an opened picture, and a note where there is one that cannot be used.

    PNG is searched for our own text chunk and for XMP, which survives a conversion from JPEG.
    """
    candidates: list[str] = []
    if image.format == "PNG" and (text := stored_texts(image, (KEYWORD,)).get(KEYWORD)) is not None:
        candidates.append(text)
    xmp = stored_xmp(image)
    if xmp is not None and (text := record_in_xmp(xmp)) is not None:
        candidates.append(text)
    problem = None
    for text in candidates:
        try:
            return Provenance.from_json(text), None
        except ValueError as error:
            problem = f"its irnscale record cannot be used and is ignored: {error}"
    return None, problem
