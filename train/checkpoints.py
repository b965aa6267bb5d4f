"""A run's state on disk: atomic, resumable, in files of at most 15 MiB.

A checkpoint is a folder `step-00001234` with sharded safetensors and `state.json`; it appears under its
name only when it is complete. Layout: `weights-*.safetensors` (float32), `ema-*.safetensors` (float16),
`moments-*.safetensors` (bfloat16: Adam's first and second moment).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from irnscale.errors import InputError, OutputError

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
    """Read what `save_sharded` wrote. Raises InputError where it is missing or damaged."""
    files = sorted(folder.glob(f"{stem}-*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no {stem} files", "the checkpoint is incomplete; remove it and resume")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors.update(load_file(file))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file}: unreadable: {error}", "remove this checkpoint and resume") from error
    return tensors


def checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [
        (int(match[1]), path)
        for path in run.glob("step-*")
        if (match := re.fullmatch(r"step-(\d+)", path.name)) and (path / "state.json").is_file()
    ]
    return [path for _, path in sorted(found)]


def save_checkpoint(
    run: Path,
    *,
    step: int,
    weights: dict[str, Tensor],
    ema: dict[str, Tensor],
    moments: dict[str, Tensor],
    state: dict[str, Any],
    keep: int = 2,
) -> Path:
    """Write `run/step-<step>` atomically and remove all but the newest `keep`. Raises OutputError.

    Killed at any moment of it, the run keeps complete checkpoints only.
    """
    final = run / f"step-{step:08d}"
    partial = run / f".partial-{os.getpid()}"
    replaced = run / f".replaced-{os.getpid()}"
    try:
        for leftover in (*run.glob(".partial-*"), *run.glob(".replaced-*")):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        save_sharded(weights, partial, "weights")
        save_sharded({k: v.to(torch.float16) for k, v in ema.items()}, partial, "ema")
        save_sharded({k: v.to(torch.bfloat16) for k, v in moments.items()}, partial, "moments")
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


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint. Raises InputError."""
    try:
        state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        missing = {"step", "optimizer_step", "seconds", "bad_steps", "run_id", "recipe"} - state.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{checkpoint}: state.json is unreadable: {error}") from error
    if missing:
        raise InputError(f"{checkpoint}: state.json lacks {', '.join(sorted(missing))}")
    return state


def export(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The averaged weights (float16) and the state of a run's newest checkpoint, or of `run` if it is one.

    Raises InputError where there is none or it is damaged.
    """
    found = [run] if (run / "state.json").is_file() else checkpoints(run)
    if not found:
        raise InputError(f"{run}: no checkpoint of a training run there", "give the folder named by --out")
    return load_sharded(found[-1], "ema"), load_state(found[-1])


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
