"""Where a run reports: `log.jsonl` always; TensorBoard and Weights & Biases behind the same small interface."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from irnscale.errors import OutputError, UsageError


class Tracker(Protocol):
    """One place that a run reports to."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers at a step; not all of them are finite."""

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """A picture, (3, H, W) uint8."""

    def alert(self, step: int, text: str) -> None:
        """Something that a person should look at."""

    def challenge(self, step: int, place: dict[str, Any]) -> None:
        """A crop with a loss far above the mean, and where it is from."""

    def close(self) -> None:
        """Store everything that was reported, and end."""


class Log:
    """`log.jsonl` of a run, one JSON object per line (numbers that JSON cannot hold become null), and PNG files.

    Raises OutputError where the folder cannot be made or a file not be written.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.path = out, out / "log.jsonl"
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out}: cannot be made a folder: {error.strerror or error}") from error

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, a line of JSON."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(clean) + "\n")
        except OSError as error:
            raise OutputError(f"{self.path}: could not be written: {error.strerror or error}") from error

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """See `Tracker`."""
        self.write({"step": step, **values})

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """See `Tracker`: `<name>/<step>.png`."""
        path = self.out / name / f"{step:08d}.png"
        try:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(path)
        except OSError as error:
            raise OutputError(f"{path}: could not be written: {error.strerror or error}") from error

    def alert(self, step: int, text: str) -> None:
        """See `Tracker`."""
        self.write({"step": step, "alert": text})

    def challenge(self, step: int, place: dict[str, Any]) -> None:
        """See `Tracker`."""
        self.write({"step": step, "challenging": place})

    def close(self) -> None:
        """See `Tracker`."""


class TensorBoard:
    """Event files in `tensorboard/` of the run's folder."""

    def __init__(self, out: Path) -> None:
        writer = _extra("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer = writer(str(out / "tensorboard"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """See `Tracker`."""
        self._writer.add_image(name, image, step)

    def alert(self, step: int, text: str) -> None:
        """See `Tracker`."""
        self._writer.add_text("alert", text, step)

    def challenge(self, step: int, place: dict[str, Any]) -> None:
        """See `Tracker`."""
        self._writer.add_text("challenging", json.dumps(place), step)

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class WeightsAndBiases:
    """A run on Weights & Biases, of the same id as here, so that a resumed run goes on there too.

    The service is told where to write by its own means: `WANDB_MODE=offline` keeps everything in the run's
    folder, for `wandb sync` later; `WANDB_PROJECT` names the project, else it is "irnscale".
    """

    def __init__(self, out: Path, run_id: str, config: dict[str, Any]) -> None:
        self._wandb = _extra("wandb", "wandb")
        self._run = self._wandb.init(
            id=run_id, name=config.get("name"), resume="allow", dir=str(out), config=config, **_project()
        )

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(values, step=step)

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """See `Tracker`."""
        self._run.log({name: self._wandb.Image(image.permute(1, 2, 0).cpu().numpy())}, step=step)

    def alert(self, step: int, text: str) -> None:
        """See `Tracker`."""
        self._run.alert(title="irnscale train", text=f"step {step}: {text}")

    def challenge(self, step: int, place: dict[str, Any]) -> None:
        """See `Tracker`."""
        self._run.log({f"challenging/{name}": value for name, value in place.items()}, step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


class Trackers:
    """All of a run's trackers as one. A place that cannot be written is reported once; the run goes on."""

    def __init__(self, trackers: list[Tracker], say: Callable[[str], None]) -> None:
        self._trackers, self._say = trackers, say
        self._failed: set[int] = set()

    def _each(self, report: Callable[[Tracker], None]) -> None:
        for index, tracker in enumerate(self._trackers):
            try:
                report(tracker)
            except (OSError, OutputError) as error:
                if index not in self._failed:
                    self._say(f"warning: {error}; the run goes on")
                self._failed.add(index)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.scalars(step, values))

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.picture(step, name, image))

    def alert(self, step: int, text: str) -> None:
        """See `Tracker`; said aloud, too."""
        self._say(f"alert: step {step}: {text}")
        self._each(lambda tracker: tracker.alert(step, text))

    def challenge(self, step: int, place: dict[str, Any]) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.challenge(step, place))

    def close(self) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.close())


def _project() -> dict[str, str]:
    return {} if "WANDB_PROJECT" in os.environ else {"project": "irnscale"}


def _extra(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        what, hint = f"track={package}: not installed", f"pip install 'irnscale[{package}]'"
        raise UsageError(what, hint, parameters=("track",)) from error
