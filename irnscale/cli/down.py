"""`irnscale down`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from irnscale import batch
from irnscale.cli.options import Common, shared
from irnscale.errors import UsageError

if TYPE_CHECKING:
    from irnscale.cli.rescale import Finished, Session
    from irnscale.images.picture import Picture

SCALES = (2, 4, 8, 16)


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-s", "--scale", type=int, help="2, 4, 8 or 16 [default: 4, or that of -m].")
@shared
def command(inputs: tuple[str, ...], scale: int | None, common: Common) -> int:
    """Shrink photographs to ordinary small images from which `up` restores them.

    INPUT is a picture file, or - for stdin. The output is photo_down4x.png beside the input, or -o. The small
    image carries a record (model, original size) that `up` reads.
    """
    from irnscale.cli.rescale import Finished, execute
    from irnscale.zoo import combined_scale, compose, find_all

    if scale is not None and scale not in SCALES:
        raise UsageError(f"-s {scale}: no such scale", f"choose one of {', '.join(map(str, SCALES))}")
    if common.model:
        models = find_all(common.model)
        own = combined_scale(models)
        if scale is not None and scale != own:
            raise UsageError(f"-s {scale} contradicts -m {common.model}, which is x{own}", "leave -s out")
        if common.jpeg_resistant and not all(m.card.jpeg_resistant for m in models):
            raise UsageError(f"--jpeg-resistant contradicts -m {common.model}", "leave one of them out")
    else:
        models = compose(scale or 4, jpeg_resistant=bool(common.jpeg_resistant))
    resistant = all(m.card.jpeg_resistant for m in models)
    lossy = [common.files.resolve_format()] if common.files.lossy and not resistant else []

    def prepare(session: Session, job: batch.Job, picture: Picture, notes: list[str]) -> Finished:
        from irnscale.engine.pictures import shrink

        if lossy:  # once
            common.warn(
                f"{lossy.pop()} is lossy and changes the pixels that `up` restores from: several dB are lost "
                "(use png, webp without -q, or tiff)"
            )
        if picture.record is not None and picture.record.kind == "down":
            notes.append("is itself a small image made by `irnscale down`")
        if picture.depth > 8:
            notes.append(f"has {picture.depth} bits per channel; the small image and what `up` makes of it have 8")
        rescaler = session.rescaler(models)
        size = (-(-picture.width // rescaler.scale), -(-picture.height // rescaler.scale))
        settings = f"down {rescaler.name} {rescaler.digest} {common.files.settings}"
        return Finished(
            rescaler.scale,
            size,
            lambda: shrink(rescaler, picture, settings=settings, progress=session.progress(job.label)),
        )

    return execute(common, inputs, _name(common), prepare)


def _name(common: Common) -> batch.Namer:
    suffix = common.files.resolve_format()
    return lambda stem, scale: f"{stem}_down{scale}x.{suffix}"
