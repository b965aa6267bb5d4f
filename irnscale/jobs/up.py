"""`up`: small images back to the original size, by the models that their records name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from irnscale.batch import Naming
from irnscale.errors import InputError, ModelError, Remark, UsageError
from irnscale.images.formats import FORMATS, is_lossy
from irnscale.images.orientation import turned_size
from irnscale.images.record import SCALES
from irnscale.jobs.model_choice import Wanted, check_scale
from irnscale.jobs.settings import Message, Settings, Tell
from irnscale.jobs.task import Choice
from irnscale.noise import check_temperature
from irnscale.sizes import check_original_size

if TYPE_CHECKING:
    from irnscale.detail.exact import Exact
    from irnscale.engine.rescaler import Rescaler
    from irnscale.images.picture import Picture
    from irnscale.images.read import Header
    from irnscale.images.record import Provenance
    from irnscale.jobs.task import Request, Rescaled
    from irnscale.zoo import Model


@dataclass(frozen=True)
class Up:
    """The task of `up`; models and sizes follow from each input's record.

    scale and wanted, a (width, height), are for inputs without a record. ignore: the options are trusted rather than
    the record. require: inputs without one are refused. sr: for small images that `down` did not make. temperature: the
    standard deviation of the noise given for the lost detail; seed: which noise, of the first of the `samples` that are
    made of each input, and one more for each that follows. with_detail: use the coded layer that
    the input carries. Raises UsageError for what contradicts itself.
    """

    settings: Settings
    scale: int | None = None
    wanted: tuple[int, int] | None = None
    ignore: bool = False
    require: bool = False
    sr: bool = False
    temperature: float = 0.0
    seed: int = 0
    with_detail: bool = True
    samples: int = 1

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.samples > 1 and not self.temperature:
            what = f"samples={self.samples} of temperature=0 are all the same"
            raise UsageError(what, "add temperature=0.8, or any other", parameters=("samples", "temperature"))
        if self.seed + self.samples > 2**64:
            what = f"seed={self.seed} leaves none for {self.samples} samples"
            raise UsageError(what, "choose a smaller one", parameters=("seed",))
        check_scale(self.scale)
        if self.ignore and self.require:
            what = "`ignore_provenance` contradicts `require_provenance`"
            raise UsageError(what, "leave one of them out", parameters=("ignore_provenance", "require_provenance"))
        if self.sr:
            _check_sr(self.scale, self.settings)

    @property
    def kind(self) -> str:
        """What the records of its outputs say."""
        return "up"

    @property
    def scales(self) -> Sequence[int]:
        """All scales that a record may name."""
        return SCALES

    @property
    def naming(self) -> Naming:
        """photo_up4x.png of photo_down4x.png, photo_up4x_1.png where there are samples, or by the template."""
        files = self.settings.files
        usual = "{stem}_up{scale}x.{ext}" if self.samples == 1 else "{stem}_up{scale}x_{sample}.{ext}"
        return Naming(files.name or usual, files.resolve_format(), drop="_down{scale}x", samples=self.samples)

    @property
    def fingerprint(self) -> str:
        """Nothing: the weights are those that a record names, by their digest."""
        return ""

    def choose(self, label: str, record: Provenance | None, format: str | None = None, *, sample: int = 1) -> Choice:
        """The models that the record names, or those of the options where there is none."""
        from irnscale.zoo import combined_digest, combined_name, combined_scale, super_resolution

        settings = self.settings
        ignored = self.ignore and record is not None
        record = None if self.ignore else record
        if record is not None and record.kind == "up":
            raise InputError(
                f"{label}: was written by `irnscale up`: it is the restored picture already",
                "give the small one, or use `ignore_provenance`",
                parameters=("ignore_provenance",),
            )
        assistant = completion = None
        if self.sr:
            if record is not None:
                raise UsageError(
                    f"{label}: was made by `irnscale down`, which `sr` is not for",
                    "leave `sr` out, or use `ignore_provenance`",
                    parameters=("sr", "ignore_provenance"),
                )
            base, assistant = super_resolution(_wanted_sr(self.scale, settings), sampling=bool(self.temperature))
            models: Sequence[Model] = [base]
            if self.scale is not None and base.card.scale != self.scale:
                what = f"scale={self.scale} contradicts model={settings.model}, which is x{base.card.scale}"
                raise UsageError(what, "leave `scale` out", parameters=("scale", "model"))
        elif (completion := _named_completion(settings)) is not None:
            models = [_completed(label, completion, record, self.scale, self.require)]
        elif record is None:
            foreign = not self.ignore and not self.temperature
            lossy = _is_lossy(format)
            models = _without_record(
                label, self.scale, settings, self.require, lossy=lossy, foreign=foreign, ignored=ignored
            )
        else:
            models = _from_record(label, record, self.scale, settings)
        if self.temperature and models[0].task == "super-resolution" and not models[0].samples:
            what = f"`temperature` is of the noise that {models[0].card.name} does without"
            raise UsageError(what, "leave it out", parameters=("temperature",))
        name, digest = combined_name(models), combined_digest(models)
        text = f"up {name} {digest} {settings.files.settings} size={self.wanted} ignore={self.ignore}"
        if assistant is not None:
            text += f" sr {assistant.card.name} {assistant.card.digest}"
        if completion is not None:
            text += f" completed by {completion.card.name} {completion.card.digest}"
        facts: dict[str, Any] = {}
        if self.temperature:
            seed = self.seed + sample - 1
            text += f" temperature={self.temperature:g} seed={seed}"
            facts = {"digest": digest, "temperature": self.temperature, "seed": seed}
            facts |= {"sample": sample} if self.samples > 1 else {}
        elif not self.with_detail:
            text += " detail=none"
        return Choice(models, combined_scale(models), text, assistant, completion, facts)

    def size(self, choice: Choice, header: Header | Picture) -> tuple[int, int]:
        """Of the upright result: the recorded size, unless the picture was resized since; the wanted one; or all.

        Record and wanted size speak of the picture as it is stored; the latter may also be that of the picture as a
        viewer has turned it since. Raises UsageError where it contradicts the record, InputError where it cannot be.
        """
        record, wanted = None if self.ignore else header.record, self.wanted
        stored = header.stored_size
        size = stored[0] * choice.scale, stored[1] * choice.scale
        if record is None:
            size = size if wanted is None else _possible(wanted, stored, header.orientation, choice.scale)
        else:
            recorded = record.width, record.height
            if wanted is not None and recorded not in (wanted, turned_size(wanted, header.orientation)):
                raise UsageError(
                    f"`size` {wanted[0]}x{wanted[1]} contradicts its record: {record.width}x{record.height}",
                    "leave `size` out, or use `ignore_provenance`",
                    parameters=("size", "ignore_provenance"),
                )
            if stored == (record.lr_width, record.lr_height):
                size = recorded
        return turned_size(size, header.orientation)

    def recover(self, label: str, data: bytes, header: Header) -> Header:
        """With the record that a coded layer stands in for, where another program dropped it; and with the orientation
        that leads back to the pixels that `down` wrote, where their turning may have exchanged width and height.
        """
        from irnscale.detail.finding import as_written, layer_in_samples, record_of
        from irnscale.images.read import read_picture

        if self.ignore or self.sr or (header.format in FORMATS and is_lossy(header.format)):
            return header
        record, settings = header.record, self.settings
        if record is not None and (record.kind == "up" or header.stored_size != (record.lr_height, record.lr_width)):
            return header
        picture = as_written(read_picture(data, label, max_pixels=settings.max_pixels, frames=settings.frames))
        if record is None:
            layer = layer_in_samples(picture, None)
            record = None if layer is None else record_of(picture, layer)
        return replace(header, record=record, orientation=picture.orientation)

    def prepare(self, label: str, picture: Picture, tell: Tell) -> Picture:
        """With the coded layer that it carries, and where its record was lost, with the one that the layer stands for.

        Raises InputError where the layer cannot be decoded here.
        """
        from irnscale.detail.finding import as_written, check_codec, layer_in_samples, layers_of, record_of

        if self.ignore or self.sr:
            return replace(picture, attachment=None)
        picture = as_written(picture)
        if picture.record is None:
            hidden = layer_in_samples(picture, None)
            record = None if hidden is None else record_of(picture, hidden)
            if hidden is None or record is None:
                return replace(picture, attachment=None)
            layers = (hidden, *layers_of(picture, record))
            picture = replace(picture, record=record, gray=record.gray)
        else:
            layers = layers_of(picture, picture.record)
        # the base of the layers is without noise, and without what completes it
        if not self.with_detail or self.temperature or _named_completion(self.settings) is not None:
            bare = tuple(layer.without_payloads() for layer in layers if layer.bits)
            return replace(picture, attachment=None, layers=bare)
        exact = self._exact_layer(picture)
        if exact is None or not exact.complete:
            for layer in layers:
                check_codec(layer, label)
        tiles = [f"{len(layer.payloads)} of {len(layer.tiles)} tiles, {layer.size} bytes" for layer in layers]
        tiles += ["the original's pixels"] if exact is not None and exact.complete else []
        if tiles:
            tell(Message("say", f"{label}: detail: {'; '.join(tiles)}"))
        return replace(picture, layers=layers)

    def _exact_layer(self, picture: Picture) -> Exact | None:
        from irnscale.engine.exactly import exact_layer

        return None if picture.attachment is None else exact_layer(picture)

    def notes(self, choice: Choice, picture: Picture) -> list[str]:
        """What makes it restore less well."""
        record = None if self.ignore else picture.record
        if record is not None:
            return _doubts(record, picture) + self._detail_doubts(record, picture)
        if picture.record is not None:
            return ["its irnscale record is ignored, and what it carries: by its own model more is restored"]
        return []

    def notes_once(self, choice: Choice, picture: Picture) -> list[str]:
        """What is left out by the options; what cannot be restored without a record."""
        if picture.record is not None or self.sr:
            return [] if self.ignore or picture.record is None else self._left_out(picture.record)
        if choice.models[0].task == "super-resolution":
            if self.settings.model is not None:
                return []
            said = (
                f"has no irnscale record and is enlarged by super-resolution, {choice.name}; where `irnscale down` "
                f"made it and its record was lost, more is restored by model={_default_name(choice.scale)}"
            )
            return [Remark(said, "model")]
        said = (
            "has no irnscale record; in a small image that `irnscale down` did not make there is nothing to restore, "
            "and a sharpened one comes out worse than with an ordinary resizer" + _sr_hint(choice)
        )
        return [Remark(said, "sr")]

    def _left_out(self, record: Provenance) -> list[str]:
        """Why the options leave the recorded detail out, where there is some."""
        if not self.with_detail or record.detail is None:
            return []
        if self.temperature:
            said = "its detail is left out: it belongs to what is restored without `temperature`"
            return [Remark(said, "temperature")]
        if _named_completion(self.settings) is not None:
            said = f"its detail is left out: it belongs to what is restored without model={self.settings.model}"
            return [Remark(said, "model")]
        return []

    def _detail_doubts(self, record: Provenance, picture: Picture) -> list[str]:
        from irnscale.detail.finding import doubts

        if not self.with_detail or self._left_out(record):
            return []
        layer = self._exact_layer(picture)
        if layer is not None and layer.complete and layer.depth == 16 and self.settings.files.depth != 16:
            said = "the lossless layer gives 16 bits per channel back, of which 8 are kept (depth=16 keeps all)"
            return [Remark(said, "depth")]
        return doubts(picture, record, exact=layer is not None and layer.complete)

    def compute(self, rescaler: Rescaler, pictures: Sequence[Picture], wanted: Request) -> list[Rescaled]:
        """The large images and their records, one for each input and sample.

        See `engine.pictures.restore_all` and `restore_samples`.
        """
        from irnscale.engine.pictures import restore_all, restore_samples

        if self.ignore:
            pictures = [replace(picture, record=None) for picture in pictures]
        seeds = [self.seed + sample - 1 for sample in wanted.samples]
        options: dict[str, Any] = {
            "size": wanted.size,
            "settings": wanted.settings,
            "depth": self.settings.files.depth or 8,
            "temperature": self.temperature,
            "progress": wanted.progress,
        }
        if self.temperature and rescaler.draws:
            return [done for picture in pictures for done in restore_samples(rescaler, picture, seeds=seeds, **options)]
        return [done for seed in seeds for done in restore_all(rescaler, pictures, seed=seed, **options)]


def _check_sr(scale: int | None, settings: Settings) -> None:
    if scale is None and settings.model is None:
        raise UsageError(
            "`sr` needs to know by how much to enlarge", "say it: `sr` scale=4", parameters=("sr", "scale")
        )
    if settings.jpeg_resistant is not None:
        what = "`sr` chooses the model, and `jpeg_resistant` does too"
        raise UsageError(what, "leave one of them out", parameters=("sr", "jpeg_resistant"))


def _wanted_sr(scale: int | None, settings: Settings) -> int | str:
    """The model that was named, or the scale."""
    if settings.model is not None:
        return settings.model
    assert scale is not None
    return scale


def _possible(wanted: tuple[int, int], stored: tuple[int, int], orientation: int, scale: int) -> tuple[int, int]:
    """The wanted size for pixels of the `stored` size, turned where it only fits so. Raises InputError."""
    try:
        check_original_size(wanted, stored, scale)
    except InputError:
        turned = turned_size(wanted, orientation)
        if turned == wanted:
            raise
        check_original_size(turned, stored, scale)
        return turned
    return wanted


def _sr_hint(choice: Choice) -> str:
    from irnscale.zoo import super_resolution

    try:
        super_resolution(choice.scale)
    except ModelError:
        return ""
    return "; `sr` is for such images"


def _default_name(scale: int) -> str:
    """The model that `down` takes."""
    from irnscale.zoo import combined_name, compose

    return combined_name(compose(scale))


def _without_record(
    label: str, scale: int | None, settings: Settings, required: bool, *, lossy: bool, foreign: bool, ignored: bool
) -> Sequence[Model]:
    """The models of the options; foreign: where these name none, the shipped network for super-resolution, if any.

    Not for lossy files: those that `down` made lose their record on the way more often than others, and of foreign ones
    the JPEG-resistant model makes nearly as much. ignored: there is a record, which is not to be used.
    """
    from irnscale.zoo import super_resolution

    if required:
        raise InputError(
            f"{label}: has no irnscale record, and `require_provenance` is given",
            "leave that out, and give `scale`",
            parameters=("require_provenance", "scale"),
        )
    if settings.model is None and scale is None and ignored:
        what = f"{label}: its record is ignored, and nothing else names the scale"
        hint = "say it, such as scale=4, or leave `ignore_provenance` out"
        raise UsageError(what, hint, parameters=("scale", "ignore_provenance"))
    if settings.model is None and scale is None:
        what = f"{label}: has no irnscale record that names the scale"
        raise UsageError(what, "say it: scale=2, scale=4, scale=8 or scale=16", parameters=("scale",))
    if foreign and not lossy and scale is not None and settings.model is None and settings.jpeg_resistant is None:
        try:
            found, _ = super_resolution(scale)
        except ModelError:
            pass
        else:
            if found.task == "super-resolution" and found.shipped:
                return [found]
    return Wanted(scale, settings.model, settings.jpeg_resistant).models(lossy=lossy)


def _is_lossy(format: str | None) -> bool:
    """Of a small image as it was stored; a WebP does not tell."""
    return format in FORMATS and is_lossy(format)


def _named_completion(settings: Settings) -> Model | None:
    """The model of -m, where it completes what another restores."""
    from irnscale.zoo import find_all

    if settings.model is None:
        return None
    found = find_all(settings.model)
    return found[0] if len(found) == 1 and found[0].task == "completion" else None


def _completed(label: str, completion: Model, record: Provenance | None, scale: int | None, required: bool) -> Model:
    """The model that it belongs to. Raises UsageError where the input was made by another, InputError, ModelError."""
    from irnscale.zoo import base_of

    card = completion.card
    if record is None and required:
        what = f"{label}: has no irnscale record, and `require_provenance` is given"
        raise InputError(what, "leave it out", parameters=("require_provenance",))
    if record is not None and record.digest != card.base_digest:
        what = f"{label}: model={card.name} completes {card.base} ({card.base_digest}), its record says {record.model}"
        raise UsageError(f"{what} ({record.digest})", "leave `model` out", parameters=("model",))
    if scale is not None and scale != card.scale:
        what = f"scale={scale} contradicts model={card.name}, which is x{card.scale}"
        raise UsageError(what, "leave `scale` out", parameters=("scale", "model"))
    return base_of(completion)


def _from_record(label: str, record: Provenance, scale: int | None, settings: Settings) -> list[Model]:
    """The models with the recorded weights, whatever they are called.

    Raises UsageError for a contradicting option, ModelError for a lacking model.
    """
    from irnscale.zoo import combined_digest, find_all
    from irnscale.zoo import recorded as find_recorded

    remedy, ignore = "leave that out, or use `ignore_provenance`", "ignore_provenance"
    if scale is not None and scale != record.scale:
        what = f"{label}: scale={scale} contradicts its record, which says x{record.scale}"
        raise UsageError(what, remedy, parameters=("scale", ignore))
    if settings.jpeg_resistant is not None and settings.jpeg_resistant != record.jpeg_resistant:
        said, kind = f"jpeg_resistant={settings.jpeg_resistant}", "JPEG-resistant" if record.jpeg_resistant else "plain"
        what = f"{label}: {said} contradicts its record, which names a {kind} model ({record.model})"
        raise UsageError(what, remedy, parameters=("jpeg_resistant", ignore))
    if settings.model is not None and settings.model != record.model:
        models = find_all(settings.model)
        if combined_digest(models) == record.digest:
            return models
        if not settings.model.endswith(".safetensors"):
            what = f"{label}: model={settings.model} contradicts its record, which says {record.model}"
            raise UsageError(what, remedy, parameters=("model", ignore))
        raise ModelError(
            f"{label}: was made with other weights of {record.model} ({record.digest}) than the given ones "
            f"({combined_digest(models)}), written by irnscale {record.version}",
            "leave `model` out or give the .safetensors of those; `ignore_provenance` tries anyway, at a loss",
            parameters=("model", ignore),
        )
    try:
        return find_recorded(record.model, record.digest, record.scale)
    except ModelError as error:
        raise ModelError(f"{label}: {error.what}", error.hint, parameters=error.parameters) from error


def _doubts(record: Provenance, picture: Picture) -> list[str]:
    from irnscale.images.picture import pixel_crc

    width, height = picture.stored_size
    if (width, height) != (record.lr_width, record.lr_height):
        return [
            f"is {width}x{height}, but its record says {record.lr_width}x{record.lr_height}: it was "
            "resized, cropped or turned since, and restores poorly; the whole of it is enlarged"
        ]
    if _is_lossy(picture.format):
        lossy_note = f"is stored as {picture.format}, and its model is not JPEG-resistant: several dB are lost"
        return [] if record.jpeg_resistant else [lossy_note]
    if record.jpeg_resistant and picture.format == "webp":
        return []  # it may be a lossy one, whose pixels never are those that `down` made
    if picture.depth == picture.stored_depth and pixel_crc(picture.as_stored()) != record.crc:
        return ["was edited or recompressed since `down` wrote it, and restores less well"]
    return []
