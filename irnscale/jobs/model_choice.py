"""Which models the options of `down`, `up` and `check` mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.errors import ModelError, Remark, UsageError

if TYPE_CHECKING:
    from irnscale.zoo import Model

SCALES = (2, 3, 4, 8, 16)


@dataclass(frozen=True)
class Wanted:
    """Scale, model and whether it is to be JPEG-resistant, as given; None where they are not."""

    scale: int | None
    model: str | None
    jpeg_resistant: bool | None

    def models(self, *, lossy: bool) -> Sequence[Model]:
        """The models, in the order of downscaling. Does not import torch.

        Without a `model` those that ship for the scale (4 unless given). Where the small image is `lossy` (JPEG, AVIF,
        WebP with a quality), those that survive it, unless they are declined or there are none for the scale: the
        detail that a plain model hides in the lowest bits is what such formats throw away.

        Raises UsageError for an unknown scale or options that contradict each other, ModelError for a model that is
        not installed.
        """
        from irnscale.zoo import combined_scale, compose, find_all

        check_scale(self.scale)
        if self.model is None:
            scale = self.scale or 4
            if self.jpeg_resistant is None and lossy:
                try:
                    return compose(scale, jpeg_resistant=True)
                except ModelError:
                    return compose(scale)
            return compose(scale, jpeg_resistant=bool(self.jpeg_resistant))
        models = find_all(self.model)
        own = combined_scale(models)
        if self.scale is not None and self.scale != own:
            what = f"scale={self.scale} contradicts model={self.model}, which is x{own}"
            raise UsageError(what, "leave `scale` out", parameters=("scale", "model"))
        resistant = all(m.card.jpeg_resistant for m in models)
        if self.jpeg_resistant is not None and self.jpeg_resistant != resistant:
            what = f"jpeg_resistant={self.jpeg_resistant} contradicts model={self.model}"
            raise UsageError(what, "leave one of them out", parameters=("jpeg_resistant", "model"))
        return models

    def chosen_for_loss(self, format: str, models: Sequence[Model]) -> Remark | None:
        """What to say of a lossy `format` where `models` are JPEG-resistant for its sake alone, else None."""
        if self.model is not None or self.jpeg_resistant is not None:
            return None
        if not all(m.card.jpeg_resistant for m in models):
            return None
        from irnscale.zoo import combined_name

        taken = f"{format} is lossy: {combined_name(models)}, which survives it, is used"
        said = f"{taken}; jpeg_resistant=False takes the plain one"
        return Remark(said, "jpeg_resistant")


def check_scale(scale: int | None) -> None:
    """Raise UsageError for a scale that no model has."""
    if scale is not None and scale not in SCALES:
        what = f"scale={scale}: no such scale"
        raise UsageError(what, f"choose one of {', '.join(map(str, SCALES))}", parameters=("scale",))
