"""The detail of a picture that was read: found in its samples, checked, and what is to be said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from irnscale.detail import chunk, codec
from irnscale.detail.attached import LOSSY, lossy_layer, sections
from irnscale.detail.cells import Samples
from irnscale.detail.pixels import Layer, begins, found
from irnscale.errors import InputError
from irnscale.images.formats import FORMATS, is_lossy
from irnscale.images.picture import pixel_crc
from irnscale.images.record import Provenance

if TYPE_CHECKING:
    from irnscale.images.picture import Picture

_BY_LIKELIHOOD = (1, 6, 8, 3, 2, 4, 5, 7)
"""Orientations: turning before mirroring, which a row of pixels cannot tell."""
REMEDY = "install a Pillow that has it, or use detail=none to restore by the network alone"


def stored_samples(picture: Picture) -> Samples:
    """(H, W, C) as `down` stored them: one channel of a gray picture, whatever program saved it as three."""
    channels = picture.as_stored().pixels
    gray = picture.gray or bool((channels[..., :1] == channels).all())
    return channels[..., :1] if gray else channels


def as_written(picture: Picture) -> Picture:
    """The picture with the orientation that leads back to the pixels that `down` wrote, where it was turned since.

    Viewers turn a picture by its orientation, editors by its pixels, without a word of that in the file; some store its
    8 bits in 16. What `down` wrote has the record's CRC, or without a record a layer. Where nothing of it is found, the
    picture as it is.
    """
    if picture.depth != picture.stored_depth or (picture.format in FORMATS and is_lossy(picture.format)):
        return picture
    record = picture.record
    if record is not None and record.kind != "down":
        return picture
    for saved in filter(None, (_in_eight_bits(picture), picture)):
        for orientation in (picture.orientation, *_BY_LIKELIHOOD):
            turned = replace(saved, orientation=orientation)
            if record is None:
                fits = begins(stored_samples(turned))
            else:
                size = record.lr_width, record.lr_height
                fits = turned.stored_size == size and pixel_crc(turned.as_stored()) == record.crc
            if fits:
                return turned
    return picture


def _in_eight_bits(picture: Picture) -> Picture | None:
    """The same values in 8 bits, where another program only stored them in 16; None where there are others."""
    planes = [plane for plane in (picture.pixels, picture.alpha) if plane is not None]
    if picture.depth == 8 or any((plane % 257).any() for plane in planes):
        return None
    pixels, *rest = [(plane // 257).astype("u1") for plane in planes]
    return replace(picture, pixels=pixels, alpha=rest[0] if rest else None, depth=8, stored_depth=8)


def layer_in_samples(picture: Picture, record: Provenance | None) -> Layer | None:
    """The layer in a picture's last digits; None where no tile of it is whole.

    record: what it says of place, scale and weights must agree. None: everything is tried.
    """
    whole = picture.depth == picture.stored_depth
    if not whole or (picture.format in FORMATS and is_lossy(picture.format)):
        return None
    said = None if record is None else record.detail
    if record is not None and (said is None or not said["bits"]):
        return None
    samples = stored_samples(picture)
    known = {} if said is None else {"bits": said["bits"], "side": said["side"]}
    layer = found(samples, picture.as_stored().alpha, **known)
    if layer is None or (record is not None and not agrees(layer, picture, record)):
        return None
    return layer


def agrees(layer: Layer, picture: Picture, record: Provenance) -> bool:
    """Whether a layer belongs to the picture that the record speaks of."""
    common = layer.common
    return (common.scale, common.digest) == (record.scale, record.digest) and common.original(*picture.stored_size) == (
        record.width,
        record.height,
    )


def record_of(picture: Picture, layer: Layer) -> Provenance | None:
    """The record that the layer's headers stand in for, where another program dropped it from the file.

    None where the headers cannot be true. The model is named by its digest alone.
    """
    common, picture = layer.common, picture.as_stored()
    width, height = common.original(picture.width, picture.height)
    record = Provenance(
        kind="down",
        version="unknown",
        model=common.digest,
        digest=common.digest,
        scale=common.scale,
        width=width,
        height=height,
        lr_width=picture.width,
        lr_height=picture.height,
        padding=common.padding,
        jpeg_resistant=bool(common.flags & chunk.JPEG_RESISTANT),
        original_format="unknown",
        source_digest="0" * 64,
        settings_digest="0" * 16,
        crc=pixel_crc(picture),
        opaque_alpha=bool(common.flags & chunk.OPAQUE_ALPHA),
        gray=bool(common.flags & chunk.GRAY),
    )
    try:
        record.to_json()
    except ValueError:
        return None
    return record


def check_codec(layer: Layer, label: str) -> None:
    """Raise InputError where this Pillow lacks the codec of the layer."""
    if not codec.has(layer.common.codec):
        name = codec.CODECS[layer.common.codec]
        raise InputError(
            f"{label}: its detail is coded as {name}, which this Pillow cannot decode", REMEDY, parameters=("detail",)
        )


def attached_layer(picture: Picture, record: Provenance | None) -> Layer | None:
    """The lossy layer attached to a picture's file; None where no tile of it fits the picture that was read."""
    section = sections(picture.attachment or b"").get(LOSSY)
    layer = None if section is None else lossy_layer(section, stored_samples(picture), picture.as_stored().alpha)
    if layer is None or not layer.payloads or (record is not None and not agrees(layer, picture, record)):
        return None
    return layer


def layers_of(picture: Picture, record: Provenance | None) -> tuple[Layer, ...]:
    """The layers in a picture's samples and beside them, in the order of adding."""
    found = layer_in_samples(picture, record), attached_layer(picture, record)
    return tuple(layer for layer in found if layer is not None)


def doubts(picture: Picture, record: Provenance, *, exact: bool) -> list[str]:
    """One line where detail that the record promises is gone, in whole or in part.

    exact: the lossless layer is whole.
    """
    said = record.detail
    if said is None or exact:
        return []
    notes = ["its lossless layer is gone or damaged: the original's pixels do not come back exactly"] * said["exact"]
    expected = bool(said["bits"]) + bool(said["attached"] and not said["exact"])
    if not picture.layers and expected:
        return [*notes, "its detail is gone or damaged, and it is restored by the network alone"]
    if len(picture.layers) < expected:
        return [*notes, "a part of its detail is gone or damaged"]
    missing = max((layer.missing for layer in picture.layers), default=0)
    if missing:
        total = len(picture.layers[0].tiles)
        notes.append(
            f"{missing} of {total} tiles were changed since `down` wrote them: they are restored by the network alone, "
            "without their detail"
        )
    return notes


def describe_detail(facts: dict[str, Any]) -> str:
    """What the record says of the layer, in one line for people: how it was when `down` wrote it."""
    with_it, without, bicubic = facts["psnr"]
    bits = facts["bits"]
    places = [f"in {bits} bit{'s' * (bits > 1)} of each sample"] if bits else []
    places += [f"in a block of {facts['attached']} bytes beside the pixels"] if facts["attached"] else []
    if facts["codec"] == "none":
        return f"{facts['bytes']} bytes, all lossless, {places[0]}; as written, restored with it exactly the original"
    after = "exactly the original" if facts["exact"] else f"{with_it:.2f} dB"
    return (
        f"{facts['bytes']} bytes of {facts['codec']}, {' and '.join(places)}; as written, restored with it {after}, by "
        f"the network alone {without:.2f} dB, by bicubic {bicubic:.2f} dB (luma PSNR)"
    )
