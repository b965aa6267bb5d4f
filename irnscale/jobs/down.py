"""`down`: photographs to small images, from which `up` restores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from irnscale.batch import Naming
from irnscale.errors import Remark, UsageError, check_choice
from irnscale.jobs.amounts import DETAILS, MOST_EFFORT, detail_bits, parse_attach
from irnscale.jobs.model_choice import Wanted
from irnscale.jobs.settings import Message, Settings, Tell
from irnscale.jobs.task import Choice

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler
    from irnscale.images.picture import Picture
    from irnscale.images.read import Header
    from irnscale.images.record import Provenance
    from irnscale.jobs.task import Request, Rescaled
    from irnscale.zoo import Model

GRAYS = ("keep", "color")


@dataclass(frozen=True)
class Down:
    """The task of `down`; the same models for every input.

    scale: 2, 3, 4, 8 or 16; None: 4, or that of the model. detail: one of `DETAILS`; None: what suits scale, format and
    model. attach: a size such as "40K" or a quality from 0 to 100, as text. effort: steps of optimisation. gray: one of
    `GRAYS`. Raises UsageError for what contradicts itself, ModelError for a model that is not installed.
    """

    settings: Settings
    scale: int | None = None
    detail: str | None = None
    attach: str | None = None
    effort: int = 0
    gray: str = "keep"

    def __post_init__(self) -> None:
        check_choice("detail", self.detail, (None, *DETAILS))
        check_choice("gray", self.gray, GRAYS)
        if not 0 <= self.effort <= MOST_EFFORT:
            what = f"effort={self.effort}: not a number from 0 to {MOST_EFFORT}"
            raise UsageError(what, "5 gains some tenths of a dB", parameters=("effort",))
        parse_attach(self.attach)
        self._choice  # noqa: B018 - what cannot be done is said before any work

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # each process finds its own models

    @property
    def kind(self) -> str:
        """What the records of its outputs say."""
        return "down"

    @cached_property
    def _wanted(self) -> Wanted:
        return Wanted(self.scale, self.settings.model, self.settings.jpeg_resistant)

    @cached_property
    def _choice(self) -> Choice:
        from irnscale.zoo import combined_digest, combined_name, combined_scale

        files, models, bits = self.settings.files, self._models, self._bits
        name = combined_name(models)
        text = f"down {name} {combined_digest(models)} {files.settings}" + (f" detail={bits}" if bits else "")
        text += (f" attach={self.attach}" if self.attach else "") + (" exact" if self._exact else "")
        text += f" effort={self.effort}" if self.effort else ""
        text += " gray=color" if self._in_colour else ""
        return Choice(models, combined_scale(models), text)

    @cached_property
    def _models(self) -> Sequence[Model]:
        return self._wanted.models(lossy=self.settings.files.lossy)

    @cached_property
    def _bits(self) -> int:
        from irnscale.zoo import combined_scale

        resistant = any(m.card.jpeg_resistant for m in self._models)
        lossy = self.settings.files.lossy
        return detail_bits(self.detail, combined_scale(self._models), lossy=lossy, jpeg_resistant=resistant)

    @property
    def _exact(self) -> bool:
        return self.detail == "exact"

    @property
    def _in_colour(self) -> bool:
        return self.gray == "color"

    @property
    def scales(self) -> Sequence[int]:
        """The one scale that all inputs have."""
        return (self._choice.scale,)

    @property
    def samples(self) -> int:
        """One small image is made of each input."""
        return 1

    @property
    def naming(self) -> Naming:
        """photo_down4x.png of photo.jpg, or by the template."""
        files = self.settings.files
        return Naming(files.name or "{stem}_down{scale}x.{ext}", files.resolve_format())

    @property
    def fingerprint(self) -> str:
        """All that an output depends on but its input, the weights of the models included."""
        return self._choice.settings

    def choose(self, label: str, record: Provenance | None, format: str | None = None, *, sample: int = 1) -> Choice:
        """The models of the options: the same for all inputs."""
        return self._choice

    def size(self, choice: Choice, header: Header) -> tuple[int, int]:
        """(width, height) of the small image: each side divided by the scale, rounded up."""
        return -(-header.width // choice.scale), -(-header.height // choice.scale)

    def recover(self, label: str, data: bytes, header: Header) -> Header:
        """The header as it is: `down` needs no record."""
        return header

    def prepare(self, label: str, picture: Picture, tell: Tell) -> Picture:
        """The picture as it is: all of it goes into the network."""
        return picture

    def notes(self, choice: Choice, picture: Picture) -> list[str]:
        """What is lost, and what is odd."""
        notes = []
        if picture.record is not None and picture.record.kind == "down":
            notes.append("is itself a small image made by `irnscale down`")
        if picture.depth > 8 and self.settings.files.depth is None:
            kept = "; `up` gives all of them back with depth=16"
            less = ", and what `up` makes of it (depth=16 keeps 16)"
            notes.append(
                Remark(
                    f"has {picture.depth} bits per channel; the small image gets 8{kept if self._exact else less}",
                    "depth",
                )
            )
        return notes

    def notes_once(self, choice: Choice, picture: Picture) -> list[str]:
        """What a gray photograph loses, unless everything comes back."""
        if not picture.gray or self._in_colour or self._exact:
            return []
        return [
            Remark(
                "is gray, and its small image has one channel to hide detail in: with the three of gray=color the "
                "result gains some 6 to 9 dB",
                "gray",
            )
        ]

    def compute(self, rescaler: Rescaler, pictures: Sequence[Picture], wanted: Request) -> list[Rescaled]:
        """The small images and their records, with the detail that was asked for. See `engine.pictures.shrink_all`."""
        from irnscale.detail.finding import describe_detail
        from irnscale.engine.pictures import shrink_all

        files = self.settings.files
        if files.lossy:
            self._tell_of_loss(files.resolve_format(), rescaler.jpeg_resistant, wanted.tell)
        results = shrink_all(
            rescaler,
            pictures,
            settings=wanted.settings,
            depth=files.depth or 8,
            detail=self._bits,
            effort=self.effort,
            through=files.through,
            in_colour=self._in_colour,
            progress=wanted.progress,
        )
        if self.attach is not None or self._exact:
            results = [
                self._attached(rescaler, picture, *result, wanted.tell)
                for picture, result in zip(pictures, results, strict=True)
            ]
        for _, record in results:
            if record.detail is not None:
                wanted.tell(Message("say", f"detail: {describe_detail(record.detail)}"))
        return results

    def _attached(
        self, rescaler: Rescaler, original: Picture, small: Picture, record: Provenance, tell: Tell
    ) -> Rescaled:
        from irnscale.engine.attaching import Attach, attach

        what = Attach(parse_attach(self.attach), self._exact)
        found = attach(rescaler, original, small, record, what, self.settings.files.encode)
        if found[0].attachment is None:
            text = f"attach={self.attach}: not even the least quality fits into so few bytes, and nothing is attached"
            tell(Message("warn", Remark(text, "attach")))
        return found

    def _tell_of_loss(self, format: str, jpeg_resistant: bool, tell: Tell) -> None:
        if not jpeg_resistant:
            text = (
                f"{format} is lossy and changes the pixels that `up` restores from: several dB are lost (use png, "
                "webp without `quality`, or tiff, or a JPEG-resistant model)"
            )
            tell(Message("warn", Remark(text, "quality"), once=True))
        elif (said := self._wanted.chosen_for_loss(format, self._models)) is not None:
            tell(Message("note", said, once=True))
