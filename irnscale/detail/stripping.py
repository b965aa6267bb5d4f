"""Small pictures without their detail: neutral digits, no attached block, and a record that knows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from irnscale.detail.finding import as_written, layer_in_samples, record_of
from irnscale.detail.pixels import without
from irnscale.images.formats import FORMATS, canonical_format, is_lossy
from irnscale.images.picture import pixel_crc
from irnscale.images.read import read_picture
from irnscale.images.segments import attachment, detached
from irnscale.images.write import encode_picture


def stripped(data: bytes, label: str) -> tuple[bytes, str | None]:
    """The file without coded detail, and a note where there was none. Raises InputError for what is no picture.

    Where only a block is attached, the rest of the file stays as it is, byte for byte. Digits become neutral where
    the layer in them is damaged, too.
    """
    picture = as_written(read_picture(data, label))
    record = picture.record
    rest = detached(data) if attachment(data) is not None else data
    hidden = layer_in_samples(picture, record)
    bits = hidden.bits if hidden is not None else record.detail["bits"] if record is not None and record.detail else 0
    if not bits or (picture.format in FORMATS and is_lossy(picture.format)):
        return rest, None if len(rest) < len(data) else "carries no coded detail, and is copied as it is"
    if record is None and hidden is not None:
        record = record_of(picture, hidden)
    gray = record.gray if record is not None else picture.gray
    one_channel = gray and bool(np.all(picture.pixels == picture.pixels[..., :1]))
    clean = picture.with_pixels(without(picture.pixels, bits), picture.alpha, gray=one_channel)
    if record is not None:
        # the pixels are written as they are shown; by the CRC of those before they were turned, `up` turns them back
        stored = replace(clean, orientation=picture.orientation).as_stored()
        record = replace(record, detail=None, crc=pixel_crc(stored))
    name = picture.format if picture.format in FORMATS else "png"
    return encode_picture(clean, canonical_format(name), record=record), None
