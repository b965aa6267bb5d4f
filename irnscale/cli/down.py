"""`irnscale down`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from irnscale import batch
from irnscale.cli.choosing import Wanted
from irnscale.cli.detailing import ATTACH, DETAIL, EFFORT, detail_bits, parse_attach
from irnscale.cli.main import EPILOG
from irnscale.cli.options import Common, RescaleCommand, shared

if TYPE_CHECKING:
    from irnscale.cli.rescale import Choice
    from irnscale.detail.attached import Amount
    from irnscale.engine.executor import Progress
    from irnscale.engine.rescaler import Rescaler
    from irnscale.images.picture import Picture
    from irnscale.images.provenance import Provenance
    from irnscale.images.read import Header


@click.command(cls=RescaleCommand, epilog=EPILOG)
@click.option("-s", "--scale", type=int, help="2, 4, 8 or 16, or 3 with -m [default: 4, or that of -m].")
@DETAIL
@ATTACH
@EFFORT
@click.option(
    "--gray",
    type=click.Choice(["keep", "color"]),
    default="keep",
    show_default=True,
    help="Small images of gray photographs: one channel, or three, almost gray, in which several dB more find room.",
)
@shared
def command(scale: int | None, detail: str | None, attach: str | None, effort: int, gray: str, common: Common) -> int:
    """Shrink photographs to ordinary small images from which `up` restores them.

    INPUT is a picture file, a folder (with -r), or - for stdin. The output is photo_down4x.png beside the input, or
    -o. The small image carries a record (model, original size) that `up` reads, and in the last bits of its pixels
    what the network alone would lose: it contains more than it shows (`irnscale strip` removes that).
    """
    from irnscale.cli.rescale import Choice, execute
    from irnscale.zoo import combined_digest, combined_scale

    wanted = Wanted(scale, common.model, common.jpeg_resistant)
    models = wanted.models(lossy=common.files.lossy)
    factor = combined_scale(models)
    name = "+".join(m.card.name for m in models)
    bits = detail_bits(
        detail, factor, lossy=common.files.lossy, jpeg_resistant=any(m.card.jpeg_resistant for m in models)
    )
    settings = f"down {name} {combined_digest(models)} {common.files.settings}" + (f" detail={bits}" if bits else "")
    settings += (f" attach={attach}" if attach else "") + (" exact" if detail == "exact" else "")
    settings += f" effort={effort}" if effort else ""
    settings += " gray=color" if gray == "color" else ""
    choice = Choice(models, factor, settings)
    naming = batch.Naming(common.files.name or "{stem}_down{scale}x.{ext}", common.files.resolve_format())
    verb = Down(
        choice,
        common,
        wanted.chosen_for_loss(models),
        bits,
        parse_attach(attach),
        detail == "exact",
        effort,
        in_colour=gray == "color",
    )
    return execute(common, verb, naming)


@dataclass
class Down:
    """What `cli.rescale` needs to know; the same models for every input. `said` is said before a lossy output."""

    choice: Choice
    common: Common
    said: str | None = None
    detail: int = 0
    amount: Amount | None = None
    exact: bool = False
    effort: int = 0
    in_colour: bool = False
    kind: str = "down"
    _warned: bool = False
    _said_gray: bool = False

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

    def recover(self, label: str, data: bytes, header: Header) -> Header:
        """As it is."""
        return header

    def prepare(self, label: str, picture: Picture) -> Picture:
        """As it is."""
        return picture

    def notes(self, label: str, choice: Choice, picture: Picture) -> list[str]:
        """What is lost, and what is odd."""
        notes = []
        if picture.gray and not self.in_colour and not self._said_gray:
            self._said_gray = True
            notes.append(
                "is gray, and its small image has one channel to hide detail in: with the three of --gray color the "
                "result gains some 6 dB"
            )
        if picture.record is not None and picture.record.kind == "down":
            notes.append("is itself a small image made by `irnscale down`")
        if picture.depth > 8 and self.common.files.depth is None:
            notes.append(
                f"has {picture.depth} bits per channel; the small image gets 8; `up --depth 16` gives all of them back"
                if self.exact
                else f"has {picture.depth} bits per channel; the small image gets 8, and what `up` makes of it "
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
        from irnscale.detail.finding import describe_detail
        from irnscale.engine.pictures import shrink_all

        files = self.common.files
        if files.lossy and not self._warned:
            self._warned = True
            self._tell_of_loss(files.resolve_format(), rescaler.jpeg_resistant)
        results = shrink_all(
            rescaler,
            pictures,
            settings=settings,
            depth=files.depth or 8,
            detail=self.detail,
            effort=self.effort,
            through=files.through,
            in_colour=self.in_colour,
            progress=progress,
        )
        if self.amount is not None or self.exact:
            results = [
                self._attach(rescaler, picture, *result) for picture, result in zip(pictures, results, strict=True)
            ]
        for _, record in results:
            if record.detail is not None:
                self.common.say(f"detail: {describe_detail(record.detail)}")
        return results

    def _attach(
        self, rescaler: Rescaler, original: Picture, small: Picture, record: Provenance
    ) -> tuple[Picture, Provenance]:
        from irnscale.engine.attaching import Attach, attach

        what = Attach(self.amount, self.exact)
        found = attach(rescaler, original, small, record, what, self.common.files.encode)
        if found[0].attachment is None:
            self.common.warn("--attach: not even the least quality fits into so few bytes, and nothing is attached")
        return found

    def _tell_of_loss(self, format: str, jpeg_resistant: bool) -> None:
        if not jpeg_resistant:
            self.common.warn(
                f"{format} is lossy and changes the pixels that `up` restores from: several dB are lost (use png, "
                "webp without -q, or tiff, or a JPEG-resistant model)"
            )
        elif self.said is not None:
            self.common.note(f"{format} is lossy: {self.said}")
