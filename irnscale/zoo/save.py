"""Writing a model: fp16 safetensors and the card beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from irnscale.errors import ModelError, OutputError
from irnscale.images.atomic import check_writable, write_bytes_atomic
from irnscale.networks.config import NetworkConfig
from irnscale.zoo.cards import ModelCard, file_sha256
from irnscale.zoo.store import Model, user_folder


def check_name(name: str) -> None:
    """Raise ModelError where no model can be called that."""
    plain = name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not plain or name.startswith(".") or name.endswith(".safetensors"):
        raise ModelError(f"{name!r} is not a model name", "use letters, digits, '-', '_' and '.'")


def save_model(
    folder: Path,
    name: str,
    config: NetworkConfig,
    tensors: dict[str, Tensor],
    *,
    overwrite: bool = False,
    base: Model | None = None,
    **card: Any,
) -> Model:
    """Write `<name>.safetensors` (float16) and `<name>.json` into `folder`; `card` are fields of `ModelCard`.

    An assistant's `base` is the model that it was trained for; only the assistant is written. Of the two files both are
    written, or, where one is refused, neither.
    Raises ModelError for weights that float16 cannot hold or a bad name, OutputError where a file exists
    or cannot be written.
    """
    check_name(name)
    halves = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in sorted(tensors.items())}
    for key, value in halves.items():
        if not torch.isfinite(value).all():
            raise ModelError(f"{name}: {key} has values beyond what float16 holds", "such weights cannot be kept")
    data = save(halves, metadata={"format": "pt", "model": name})
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"{folder}: cannot create the folder of models: {error.strerror}"
        if folder == user_folder():
            raise OutputError(what, "set IRNSCALE_MODELS to another") from error
        raise OutputError(what, "give another with `to`", parameters=("to",), otherwise="choose another") from error
    weights, beside = folder / f"{name}.safetensors", folder / f"{name}.json"
    for path in (weights, beside):  # before either: the weights of one model must not come to the card of another
        check_writable(path, overwrite=overwrite)
    write_bytes_atomic(data, weights, overwrite=overwrite)
    if base is not None:
        card |= {"base": base.card.name, "base_digest": base.card.digest}
    result = ModelCard(
        name=name,
        scale=config.scale if base is None else base.card.scale,
        architecture=config.to_dict(),
        sha256=file_sha256(weights),
        kind=config.kind,
        **card,
    )
    write_bytes_atomic(result.to_json().encode(), beside, overwrite=overwrite)
    return Model(result, weights, shipped=False)
