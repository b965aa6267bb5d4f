"""`irnscale down`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from irnscale import batch
from irnscale.cli.choosing import Wanted
from irnscale.cli.main import EPILOG
from irnscale.cli.options import Common, RescaleCommand, shared
from irnscale.errors import UsageError

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
@click.option(
    "--detail",
    type=click.Choice(["none", "1", "2", "3", "exact"]),
    help="Bits of each stored sample that carry a coded layer of what the network loses; exact: also attach what is "
    "missing to the original bit for bit [default: 1 at x2, else 2; none in lossy formats and with --jpeg-resistant].",
)
@click.option(
    "--attach",
    metavar="SIZE|QUALITY",
    help="Attach detail to the file beside its pixels: so many bytes (40K), or a quality from 0 to 100. For files that "
    "are kept as they are written.",
)
@shared
def command(scale: int | None, detail: str | None, attach: str | None, common: Common) -> int:
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
    bits = _detail_bits(detail, factor, common, jpeg_resistant=any(m.card.jpeg_resistant for m in models))
    settings = f"down {name} {combined_digest(models)} {common.files.settings}" + (f" detail={bits}" if bits else "")
    settings += (f" attach={attach}" if attach else "") + (" exact" if detail == "exact" else "")
    choice = Choice(models, factor, settings)
    naming = batch.Naming(common.files.name or "{stem}_down{scale}x.{ext}", common.files.resolve_format())
    verb = Down(choice, common, wanted.chosen_for_loss(models), bits, _parse_attach(attach), detail == "exact")
    return execute(common, verb, naming)


def _parse_attach(text: str | None) -> Amount | None:
    """ "40K" as bytes, "50" as a quality. Raises UsageError."""
    from irnscale.detail.attached import Amount
    from irnscale.detail.codec import available

    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KM]?)(i?B)?", text, re.IGNORECASE)
    if not match:
        raise UsageError(f"--attach {text}: neither a size nor a quality", "for example --attach 40K or --attach 50")
    if available() is None:
        raise UsageError("--attach needs a Pillow that has AVIF or WebP", "install one, or leave it out")
    if not match[2] and not match[3]:
        if "." in match[1] or int(match[1]) > 100:
            raise UsageError(f"--attach {text}: a quality is from 0 to 100", f"a size has a unit: --attach {text}B")
        return Amount(quality=int(match[1]))
    return Amount(bytes=int(float(match[1]) * {"": 1, "K": 2**10, "M": 2**20}[match[2].upper()]))


def _detail_bits(given: str | None, scale: int, common: Common, *, jpeg_resistant: bool) -> int:
    """Bits per sample of the coded layer; 0: none. Raises UsageError where they could not survive."""
    from irnscale.detail.codec import available

    given = None if given == "exact" else given
    if given == "none" or (given is None and (common.files.lossy or jpeg_resistant or available() is None)):
        return 0
    if common.files.lossy:
        what = f"--detail {given} is carried by the last bits of the pixels, which a lossy format changes"
        raise UsageError(what, "use png, tiff, or webp without -q")
    if available() is None:
        raise UsageError("--detail needs a Pillow that has AVIF or WebP", "install one, or use --detail none")
    if given is not None:
        return int(given)
    return 1 if scale == 2 else 2


@dataclass
class Down:
    """What `cli.rescale` needs to know; the same models for every input. `said` is said before a lossy output."""

    choice: Choice
    common: Common
    said: str | None = None
    detail: int = 0
    amount: Amount | None = None
    exact: bool = False
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

    def recover(self, label: str, data: bytes, header: Header) -> Header:
        """As it is."""
        return header

    def prepare(self, label: str, picture: Picture) -> Picture:
        """As it is."""
        return picture

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
        from irnscale.detail.finding import describe_detail
        from irnscale.engine.pictures import shrink_all

        files = self.common.files
        if files.lossy and not self._warned:
            self._warned = True
            self._tell_of_loss(files.resolve_format(), rescaler.jpeg_resistant)
        results = shrink_all(
            rescaler, pictures, settings=settings, depth=files.depth or 8, detail=self.detail, progress=progress
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
        return attach(rescaler, original, small, record, what, self.common.files.encode)

    def _tell_of_loss(self, format: str, jpeg_resistant: bool) -> None:
        if not jpeg_resistant:
            self.common.warn(
                f"{format} is lossy and changes the pixels that `up` restores from: several dB are lost (use png, "
                "webp without -q, or tiff, or a JPEG-resistant model)"
            )
        elif self.said is not None:
            self.common.note(f"{format} is lossy: {self.said}")
