"""Down and up again through a small file, with the coded layer that it may carry."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from irnscale.detail.attached import Amount
from irnscale.detail.finding import layers_of
from irnscale.engine.attaching import Attach, attach
from irnscale.engine.pictures import restore, shrink
from irnscale.engine.rescaler import Rescaler
from irnscale.images.formats import canonical_format
from irnscale.images.picture import Picture
from irnscale.images.read import read_picture
from irnscale.images.record import Provenance
from irnscale.images.segments import attached
from irnscale.images.write import encode_picture


@dataclass(frozen=True)
class Storage:
    """What `down` is told of the small file: format and its options, as `encode_picture` takes them, and the detail.

    bits: of each stored sample. amount: of what is attached. exact: attach what is missing bit for bit.
    """

    format: str = "png"
    quality: int | None = None
    subsampling: str | None = None
    bits: int = 0
    amount: Amount | None = None
    exact: bool = False

    @property
    def detailed(self) -> bool:
        """Whether the file carries any detail."""
        return bool(self.bits or self.amount or self.exact)

    @property
    def name(self) -> str:
        """How tables name it, without the format."""
        parts = [f"{self.bits} bit{'s' * (self.bits > 1)}"] if self.bits else []
        if self.amount is not None:
            attached = self.amount.bytes
            parts.append(f"attached {f'q{self.amount.quality}' if attached is None else f'{attached} bytes'}")
        return " + ".join(parts + ["exact"] * self.exact) or "no detail"

    def encode(self, small: Picture, record: Provenance) -> bytes:
        """The file, with what is attached to the picture. Raises UsageError, OutputError as `encode_picture` does."""
        options: dict[str, Any] = {"quality": self.quality, "subsampling": self.subsampling}
        data = encode_picture(small, self.format, record=record, **options)
        return data if small.attachment is None else attached(data, small.attachment, canonical_format(self.format))


@dataclass(frozen=True)
class Trip:
    """A file, what is read from it, what `up` makes of it with which record, and what with `--detail none`.

    plain is None where the file carries nothing. seconds: for `down` and `up`, without `plain`.
    """

    stored: bytes
    small: Picture
    restored: Picture
    record: Provenance
    plain: Picture | None
    seconds: float


def travel(rescaler: Rescaler, picture: Picture, storage: Storage) -> Trip:
    """Shrink, write, read and restore a picture in memory. Raises InputError, OutputError or UsageError."""
    started = time.perf_counter()
    small, record = shrink(rescaler, picture, settings="check", detail=storage.bits)
    if storage.amount is not None or storage.exact:
        what = Attach(storage.amount, storage.exact)
        small, record = attach(rescaler, picture, small, record, what, storage.encode)
    stored = storage.encode(small, record)
    back = read_picture(stored)
    found = replace(back, layers=layers_of(back, back.record))
    size = picture.width, picture.height
    restored, up_record = restore(rescaler, found, size=size, settings="check")
    seconds = time.perf_counter() - started
    plain = None
    if found.layers or found.attachment:
        bare = tuple(layer.without_payloads() for layer in found.layers if layer.bits)
        plain, _ = restore(rescaler, replace(found, layers=bare, attachment=None), size=size, settings="check")
    return Trip(stored, back, restored, up_record, plain, seconds)
