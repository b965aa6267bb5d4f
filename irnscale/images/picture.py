"""The picture as the rest of the program sees it: upright pixels and what came with them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from irnscale.images.alpha import seen_alpha
from irnscale.images.orientation import turn_back, turned_size
from irnscale.images.pixels import Pixels

if TYPE_CHECKING:
    from irnscale.detail.pixels import Layer
    from irnscale.images.record import Provenance
    from irnscale.images.resolution import Resolution
    from irnscale.images.texts import Text


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels, already upright, with the metadata that belongs to them.

    `eq` is left to identity: arrays have no truth value, so a generated `==` would raise.
    """

    pixels: Pixels  # (H, W, 3) RGB; uint8, or uint16 where depth is 16
    alpha: Pixels | None  # (H, W), dtype of `pixels`; None where the source had none or it was opaque
    gray: bool  # the three channels are one gray plane repeated; written as a single channel
    opaque_alpha: bool  # the source had an alpha plane that hid nothing
    depth: int  # 8 or 16
    icc: bytes | None
    exif: bytes | None  # TIFF structure without the "Exif\0\0" prefix; orientation 1, no thumbnail
    xmp: bytes | None  # UTF-8 packet without our own record
    format: str  # of the source, lower case: png, jpg, webp, tiff; or what Pillow calls it
    source_digest: str  # sha256 of the source's bytes, hexadecimal
    notes: tuple[str, ...] = ()  # what the user should be told once
    record: Provenance | None = None  # what `down` or `up` wrote into the source
    iptc: bytes | None = None  # IIM data sets that describe the photograph
    layers: tuple[Layer, ...] = ()  # coded detail that was found in or beside the samples, in the order of adding
    attachment: bytes | None = None  # block of coded detail beside the samples, see `segments`
    stored_depth: int = 8  # bits per channel in the source; more than `depth` where no decoder gave them all
    cicp: tuple[int, int] | None = (
        None  # H.273's codes of primaries and transfer, where no profile can say them: PQ, HLG
    )
    resolution: Resolution | None = None  # at which the upright picture is to be printed or shown
    texts: tuple[Text, ...] = ()  # beside the pixels: PNG's, or comments
    orientation: int = 1  # EXIF's, by which the stored pixels were turned to be upright

    @property
    def height(self) -> int:
        """Rows of the upright picture."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of the upright picture."""
        return int(self.pixels.shape[1])

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) before it was turned upright."""
        return turned_size((self.width, self.height), self.orientation)

    def as_stored(self) -> Picture:
        """The picture before it was turned upright."""
        if self.orientation == 1:
            return self
        alpha = None if self.alpha is None else turn_back(self.alpha, self.orientation)
        return replace(self, pixels=turn_back(self.pixels, self.orientation), alpha=alpha, orientation=1)

    def stripped(self, what: str | None) -> Picture:
        """With pixels and their colours alone for "metadata", without the profile too for "all"; itself for None."""
        if what is None:
            return self
        bare = replace(self, exif=None, xmp=None, iptc=None, resolution=None, texts=())
        return replace(bare, icc=None, cicp=None) if what == "all" else bare

    def with_pixels(self, pixels: Pixels, alpha: Pixels | None = None, **changes: Any) -> Picture:
        """The same picture with other pixels, upright, and alpha; `depth` follows the dtype unless given.

        `alpha` is replaced too (None drops it): a plane of the old size would not fit the new pixels. So is coded
        detail, which belongs to the old ones.
        Raises ValueError where shapes or dtypes do not agree.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"pixels must be (H, W, 3), not {pixels.shape}")
        if str(pixels.dtype) not in ("uint8", "uint16"):
            raise ValueError(f"pixels must be uint8 or uint16, not {pixels.dtype}")
        if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
            raise ValueError(f"alpha {alpha.shape} {alpha.dtype} does not fit pixels {pixels.shape} {pixels.dtype}")
        defaults: dict[str, Any] = {"depth": 8 * pixels.dtype.itemsize, "orientation": 1}
        changes = defaults | {"layers": (), "attachment": None} | changes
        return replace(self, pixels=pixels, alpha=alpha, **changes)


def pixel_crc(picture: Picture) -> int:
    """CRC-32 of the pixels (RGB, row by row), continued over the alpha plane where there is one that hides anything."""
    order = "<u2" if picture.depth == 16 else "u1"
    crc = zlib.crc32(picture.pixels.astype(order, copy=False).tobytes())
    alpha = seen_alpha(picture.alpha)
    return crc if alpha is None else zlib.crc32(alpha.astype(order, copy=False).tobytes(), crc)
