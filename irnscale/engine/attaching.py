"""Detail that is attached to the file: made from the small picture as `up` will read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from irnscale.detail import chunk, codec
from irnscale.detail.attached import EXACT, LOSSY, Amount, block, encode_amount, lossy_layer, lossy_section
from irnscale.detail.finding import layer_in_samples, stored_samples
from irnscale.detail.pixels import residual
from irnscale.detail.tiles import Tile, grid
from irnscale.engine.detailed import Quality, as_gray, common_of, enlarge_tile, facts_of, measure
from irnscale.engine.exactly import exact_section
from irnscale.engine.pictures import restore
from irnscale.engine.rescaler import Rescaler
from irnscale.images.alpha import bleed
from irnscale.images.depth import eight_bits
from irnscale.images.picture import Picture
from irnscale.images.read import read_picture
from irnscale.images.record import Provenance


@dataclass(frozen=True)
class Attach:
    """What is to be attached. amount: of lossy detail, None: none of it. exact: the lossless layer."""

    amount: Amount | None = None
    exact: bool = False


def attach(
    rescaler: Rescaler,
    original: Picture,
    small: Picture,
    record: Provenance,
    what: Attach,
    encode: Callable[[Picture, Provenance], bytes],
) -> tuple[Picture, Provenance]:
    """The small picture with a block to attach to its file, and the record that speaks of it.

    encode: the file that will be written, of which the block takes the samples as `up` will read them. Raises
    OutputError where the lossless layer does not give the original back. Nothing is attached where no tile fits into
    the amount.
    """
    back = read_picture(encode(small, record))
    layer = layer_in_samples(back, record)
    back = replace(back, record=record, gray=small.gray, layers=() if layer is None else (layer,))
    kind = codec.available()
    parts: dict[int, bytes] = {}
    facts = record.detail
    if what.amount is not None and kind is not None:
        parts[LOSSY], facts = _lossy(rescaler, original, back, what.amount, kind)
    if what.exact:
        parts[EXACT] = exact_section(original, back, rescaler.scale)
    if not any(parts.values()):
        return small, record
    data = block(parts)
    if facts is None and what.exact:
        facts = {"bits": 0, "side": 16, "bytes": len(data), "codec": "none", "psnr": [99.99] * 3}
    if facts is None:
        return small, record
    facts |= {"attached": len(data), "exact": what.exact}
    return replace(small, attachment=data), replace(record, detail=facts)


def _lossy(
    rescaler: Rescaler, original: Picture, back: Picture, amount: Amount, kind: int
) -> tuple[bytes, dict[str, Any] | None]:
    """The section of lossy tiles, and what the record says; of the base that leaves less to be coded."""
    size = original.width, original.height
    target = eight_bits(original.pixels if original.alpha is None else bleed(original.pixels, original.alpha))
    base = restore(rescaler, back, size=size, settings="")[0].pixels
    samples = stored_samples(back)
    small = eight_bits(back.pixels)
    scale = rescaler.scale
    common = common_of(rescaler, original, back.width, back.height, kind)
    tiles = tuple(grid(back.width, back.height, common.side))
    plain = np.empty_like(base)
    for tile in tiles:
        place = tile.large(scale, *size)
        plain[place] = enlarge_tile(small, tile, scale, base[place].shape)
    errors = Quality()
    errors.add(target, base, plain)
    if errors.errors[1] < errors.errors[0]:
        base = as_gray(plain) if original.gray else plain
        common = replace(common, flags=common.flags | chunk.BICUBIC_BASE)

    def residual_of(tile: Tile) -> codec.Residual:
        place = tile.large(scale, *size)
        return residual(target[place], base[place])

    payloads = encode_amount(residual_of, tiles, kind, amount)
    alpha = back.as_stored().alpha
    section = lossy_section(common, samples, payloads, alpha)
    layer = lossy_layer(section, samples, alpha)
    if layer is None:
        return section, back.record.detail if back.record is not None else None
    facts = facts_of(layer, measure(target, small, scale, base, layer))
    before = back.record.detail if back.record is not None and back.layers else None
    alone = errors.psnr[0] if before is None else before["psnr"][1]
    facts["psnr"][1] = alone
    hidden = sum(found.size for found in back.layers)
    return section, facts | {
        "bits": max((found.bits for found in back.layers), default=0),
        "bytes": layer.size + hidden,
    }
