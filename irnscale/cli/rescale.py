"""What `down` and `up` do alike: loading models once, progress, writing and reporting."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from irnscale import batch
from irnscale.cli.main import fail
from irnscale.cli.options import Common, guarded_stdout
from irnscale.images.formats import check_format_limits
from irnscale.images.write import check_options, encode_picture, encoding_notes

if TYPE_CHECKING:
    from irnscale.engine.executor import Progress
    from irnscale.engine.rescaler import Rescaler
    from irnscale.images.picture import Picture
    from irnscale.images.provenance import Provenance
    from irnscale.zoo import Model


class Finished:
    """A picture to write, its record, and a deferred computation in between."""

    def __init__(self, scale: int, size: tuple[int, int], compute: Callable[[], tuple[Picture, Provenance]]) -> None:
        self.scale, self.size, self.compute = scale, size, compute


class Session:
    """One run of `down` or `up`: options and the models loaded so far."""

    def __init__(self, common: Common) -> None:
        self.common = common
        self._rescalers: dict[str, Rescaler] = {}

    def rescaler(self, models: Sequence[Model]) -> Rescaler:
        """The rescaler of these models, loaded on first use. Imports torch."""
        key = "+".join(str(m.weights) for m in models)
        if key not in self._rescalers:
            from irnscale.engine.rescaler import Rescaler

            common = self.common
            self._rescalers[key] = Rescaler(models, device=common.device, precision=common.precision, tile=common.tile)
        return self._rescalers[key]

    def progress(self, label: str) -> Progress | None:
        """A bar on stderr for one picture, where stderr is a terminal."""
        if not self.common.progress:
            return None
        from tqdm import tqdm

        bar = tqdm(desc=label, leave=False, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}")

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()
            if done == total:
                bar.close()

        return update


def execute(
    common: Common,
    inputs: tuple[str, ...],
    name: batch.Namer,
    prepare: Callable[[Session, batch.Job, Picture, list[str]], Finished],
) -> int:
    """Read, rescale and write every input. Returns the exit code."""
    session = Session(common)
    jobs = batch.plan(inputs, common.files, name)
    targets = batch.Targets(jobs, overwrite=common.files.overwrite)
    format_ = common.files.resolve_format()
    check_options(format_, common.files.quality, common.files.subsampling)
    with guarded_stdout(common.files, inputs) as stdout:

        def process(job: batch.Job, notes: list[str]) -> Path | None:
            started = time.perf_counter()
            picture = batch.read_source(job, max_pixels=common.max_pixels, frames=common.frames)
            notes.extend(picture.notes)
            finished = prepare(session, job, picture, notes)
            target = targets.claim(job, finished.scale)
            check_format_limits(format_, *finished.size)
            result, record = finished.compute()
            notes.extend(encoding_notes(result, format_))
            data = encode_picture(
                result,
                format_,
                quality=common.files.quality,
                subsampling=common.files.subsampling,
                record=record,
            )
            batch.write_target(data, target, overwrite=common.files.overwrite, stdout=stdout)
            common.say(
                f"{job.label} -> {target or 'stdout'}  {picture.width}x{picture.height} -> "
                f"{result.width}x{result.height}  {time.perf_counter() - started:.2f} s"
            )
            return target

        return batch.run(jobs, process, say=common.say, warn=common.warn, fail=fail)
