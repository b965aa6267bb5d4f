"""A run's state on disk: atomic, resumable, in files of at most 15 MiB.

A checkpoint is a folder `<UTC time>_<epoch>_<recent loss>_<run id>`, as in the dissertation's section 2.6.1,
with sharded safetensors and `state.json`; it appears under its name only when it is complete.
`weights-*.safetensors`, `ema-*` and `optimizer-*` (the optimiser's vectors, by "vector.parameter") are
float32, so that a run goes on as if it had not stopped; in the compact form the last two are float16 and
bfloat16.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from irnscale.errors import InputError, ModelError, OutputError
from irnscale.jsontext import is_count, is_number, parsed

SHARD_BYTES = 15 * 2**20
HEADER_BYTES = 1024
ENTRY_BYTES = 192  # a tensor's line in a safetensors header, beyond its name


def save_sharded(tensors: dict[str, Tensor], folder: Path, stem: str) -> None:
    """Write `tensors` as `stem-00.safetensors`, ... each of at most `SHARD_BYTES`, and onto the disk."""
    shards: list[dict[str, Tensor]] = [{}]
    used = HEADER_BYTES
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size() + len(name) + ENTRY_BYTES
        if HEADER_BYTES + size > SHARD_BYTES:
            raise ValueError(f"{name} alone is larger than a shard ({size} bytes)")
        if used + size > SHARD_BYTES:
            shards.append({})
            used = HEADER_BYTES
        shards[-1][name] = tensor.detach().cpu().contiguous()
        used += size
    for index, shard in enumerate(shards):
        path = folder / f"{stem}-{index:02d}.safetensors"
        save_file(shard, path)
        _sync(path)


def load_sharded(folder: Path, stem: str) -> dict[str, Tensor]:
    """Read what `save_sharded` wrote. Raises ModelError where it is missing or damaged."""
    files = sorted(folder.glob(f"{stem}-*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no {stem} files", "the checkpoint is incomplete; remove it and resume")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors.update(load_file(file))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file}: unreadable: {error}", "remove this checkpoint and resume") from error
    return tensors


NAME = re.compile(r"\d{8}T\d{6}Z_\d+_[^_]+_[0-9a-f]+")


def checkpoint_name(seconds: float, epoch: int, loss: float, run_id: str) -> str:
    """A checkpoint's folder: `<UTC time>_<epoch>_<recent loss>_<run id>`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
    return f"{stamp}_{epoch:04d}_{loss:.4g}_{run_id}"


def checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints in a run's folder, by their step; those whose state is damaged come last."""
    found = []
    for path in run.glob("*"):
        if NAME.fullmatch(path.name) and (path / "state.json").is_file():
            try:
                step = load_state(path)["step"]
            except ModelError:
                step = 2**63
            found.append((step, path.name, path))
    return [path for _, _, path in sorted(found)]


def find_run(run: str, out: Path) -> Path:
    """The folder of `run`: a folder itself, or the id of a run in `out` or in a folder beside it.

    Raises InputError where there is none.
    """
    if Path(run).is_dir():
        folder = Path(run)
        if (folder / "state.json").is_file():
            return folder.parent
        if not checkpoints(folder):
            what, hint = f"resume={run}: the folder holds no checkpoint", "give that of a run, or a run's id"
            raise InputError(what, hint, parameters=("resume",))
        return folder
    for folder in (out, *sorted(path for path in out.parent.glob("*") if path.is_dir() and path != out)):
        if any(path.name.endswith(f"_{run}") for path in checkpoints(folder)):
            return folder
    what = f"resume={run}: no checkpoint of such a run in {out} or beside it"
    hint = "put KEY=VALUE before `resume`" if "=" in run else "give its folder as `out`"
    raise InputError(what, hint, parameters=("resume", "out"))


def save_checkpoint(
    run: Path,
    *,
    weights: dict[str, Tensor],
    ema: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    compact: bool = False,
    keep: int = 2,
) -> Path:
    """Write a checkpoint into the folder `run` atomically and remove all but the newest `keep`.

    `state` has at least "step", "epoch", "recent_loss" and "run_id". Raises OutputError. Killed at any moment
    of it, the run keeps complete checkpoints only.
    """
    final = run / checkpoint_name(time.time(), int(state["epoch"]), state["recent_loss"] or 0.0, state["run_id"])
    partial = run / f".partial-{os.getpid()}"
    replaced = run / f".replaced-{os.getpid()}"
    try:
        for leftover in (*run.glob(".partial-*"), *run.glob(".replaced-*")):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        save_sharded(weights, partial, "weights")
        save_sharded(_as(torch.float16, ema) if compact else ema, partial, "ema")
        save_sharded(_as(torch.bfloat16, optimizer) if compact else optimizer, partial, "optimizer")
        (partial / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        _sync(partial / "state.json")
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
        _sync(run)
    except (OSError, SafetensorError) as error:
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise OutputError(f"{final}: could not write the checkpoint: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _as(dtype: torch.dtype, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything but scalars, which count, in `dtype`."""
    return {name: tensor.to(dtype) if tensor.ndim else tensor for name, tensor in tensors.items()}


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint. Raises ModelError where it is not what `save_checkpoint` was given."""
    try:
        state: dict[str, Any] = parsed((checkpoint / "state.json").read_text(encoding="utf-8"))
        missing = {"step", "seconds", "bad_steps", "run_id", "recipe"} - state.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{checkpoint}: state.json is unreadable: {error}", "remove this checkpoint") from error
    if missing:
        raise ModelError(f"{checkpoint}: state.json lacks {', '.join(sorted(missing))}", "remove this checkpoint")
    if wrong := [name for name, valid in _VALID.items() if name in state and not valid(state[name])]:
        raise ModelError(f"{checkpoint}: state.json has no valid {', '.join(wrong)}", "remove this checkpoint")
    return state


_VALID: dict[str, Callable[[Any], bool]] = {
    "step": is_count,
    "seconds": is_number,
    "bad_steps": is_count,
    "run_id": lambda name: isinstance(name, str),
    "recipe": lambda recipe: isinstance(recipe, dict) and isinstance(recipe.get("network", {}), dict),
    "epoch": is_number,
    "recent_loss": lambda loss: loss is None or is_number(loss),
    "base_digest": lambda digest: digest is None or isinstance(digest, str),
}


def export(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The averaged weights (float16) and the state of a run's newest checkpoint, or of `run` if it is one.

    Raises InputError where there is none, ModelError where it is damaged.
    """
    found = [run] if (run / "state.json").is_file() else checkpoints(run)
    if not found:
        raise InputError(f"{run}: no checkpoint of a training run there", "give a run's folder")
    ema = load_sharded(found[-1], "ema")
    return {k: v.half() if v.is_floating_point() else v for k, v in ema.items()}, load_state(found[-1])


def _sync(path: Path) -> None:
    """Force a file, or a folder's list of names, onto the disk (folders where the system can)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
