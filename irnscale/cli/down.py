"""`irnscale down`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from irnscale import batch
from irnscale.cli.choosing import Wanted
from irnscale.cli.main import EPILOG
from irnscale.cli.options import Common, RescaleCommand, shared

if TYPE_CHECKING:
    from irnscale.cli.rescale import Choice
    from irnscale.engine.executor import Progress
    from irnscale.engine.rescaler import Rescaler
    from irnscale.images.picture import Picture
    from irnscale.images.provenance import Provenance
    from irnscale.images.read import Header


@click.command(cls=RescaleCommand, epilog=EPILOG)
@click.option("-s", "--scale", type=int, help="2, 4, 8 or 16, or 3 with -m [default: 4, or that of -m].")
@shared
def command(scale: int | None, common: Common) -> int:
    """Shrink photographs to ordinary small images from which `up` restores them.

    INPUT is a picture file, a folder (with -r), or - for stdin. The output is photo_down4x.png beside the input, or
    -o. The small image carries a record (model, original size) that `up` reads.
    """
    from irnscale.cli.rescale import Choice, execute
    from irnscale.zoo import combined_digest, combined_scale

    wanted = Wanted(scale, common.model, common.jpeg_resistant)
    models = wanted.models(lossy=common.files.lossy)
    factor = combined_scale(models)
    name = "+".join(m.card.name for m in models)
    choice = Choice(models, factor, f"down {name} {combined_digest(models)} {common.files.settings}")
    naming = batch.Naming(common.files.name or "{stem}_down{scale}x.{ext}", common.files.resolve_format())
    return execute(common, Down(choice, common, wanted.chosen_for_loss(models)), naming)


@dataclass
class Down:
    """What `cli.rescale` needs to know; the same models for every input. `said` is said before a lossy output."""

    choice: Choice
    common: Common
    said: str | None = None
    kind: str = "down"
    _warned: bool = False

    @property
    def scales(self) -> Sequence[int]:
        """The one scale of all inputs."""
        return (self.choice.scale,)

    def choose(self, label: str, record: Provenance | None, format: str | None = None) -> Choice:
        """The same for all."""
        return self.choice

    def size(self, choice: Choice, header: Header) -> tuple[int, int]:
        """Rounded up."""
        return -(-header.width // choice.scale), -(-header.height // choice.scale)

    def notes(self, label: str, choice: Choice, picture: Picture) -> list[str]:
        """What is lost, and what is odd."""
        notes = []
        if picture.record is not None and picture.record.kind == "down":
            notes.append("is itself a small image made by `irnscale down`")
        if picture.depth > 8 and self.common.files.depth is None:
            notes.append(
                f"has {picture.depth} bits per channel; the small image gets 8, and what `up` makes of it "
                "(--depth 16 keeps 16)"
            )
        return notes

    def compute(
        self,
        rescaler: Rescaler,
        pictures: Sequence[Picture],
        size: tuple[int, int],
        settings: str,
        progress: Progress | None,
    ) -> list[tuple[Picture, Provenance]]:
        """See `engine.pictures.shrink_all`."""
        from irnscale.engine.pictures import shrink_all

        files = self.common.files
        if files.lossy and not self._warned:
            self._warned = True
            self._tell_of_loss(files.resolve_format(), rescaler.jpeg_resistant)
        return shrink_all(rescaler, pictures, settings=settings, depth=files.depth or 8, progress=progress)

    def _tell_of_loss(self, format: str, jpeg_resistant: bool) -> None:
        if not jpeg_resistant:
            self.common.warn(
                f"{format} is lossy and changes the pixels that `up` restores from: several dB are lost (use png, "
                "webp without -q, or tiff, or a JPEG-resistant model)"
            )
        elif self.said is not None:
            self.common.note(f"{format} is lossy: {self.said}")
