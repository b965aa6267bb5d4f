"""Inputs whose outputs would have one name, told apart by their extensions or, where these agree, by folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from irnscale.batch.jobs import Job
from irnscale.errors import OutputError


def tell_apart(
    jobs: Sequence[Job], scales: Sequence[int], scale_of: Callable[[Job], int | None]
) -> tuple[list[Job], str | None]:
    """The jobs with an output each, and a line about the names that had to change; None where none had.

    Of two that meet, both get their input's extension into the name, so that it does not depend on their order; those
    of one extension are put below their folders' names. Those that meet all the same (a template that is one name) keep
    why as their `problem`; no other job is concerned.

    `scales` are those an input may have. Only where names meet at one of them is `scale_of` asked for the scale of
    the inputs concerned, since that may mean opening them.
    """
    settled, known = list(jobs), dict[int, int | None]()
    below = dict[int, Path]()

    def actual(index: int) -> int | None:
        if len(scales) == 1:
            return scales[0]
        if index not in known:
            known[index] = scale_of(jobs[index])
        return known[index]

    while True:
        groups = _meeting(settled, scales, actual)
        moving = {index: path for group in groups for index, path in _by_folder(settled, group, below).items()}
        changing = [index for group in groups for index in group if index not in moving and settled[index].apart < 2]
        if not changing and not moving:
            break
        for index, place in moving.items():
            below[index] = place
            settled[index] = replace(settled[index], folder=place)
        for index in changing:
            settled[index] = replace(settled[index], apart=settled[index].apart + 1)
    for group in groups:
        for index in group:
            other = settled[group[1] if index == group[0] else group[0]].label
            path = jobs[index].path(actual(index) or scales[0])
            problem = OutputError(
                f"{path}: both {settled[index].label} and {other} would be written there",
                "run each of them alone, with its own `target` or `name`",
                parameters=("target", "name"),
            )
            settled[index] = replace(settled[index], problem=problem)
    told = [_told(settled, actual), _told_of_folders(settled, sorted(below), actual)]
    return settled, "; ".join(filter(None, told)) or None


def _by_folder(jobs: Sequence[Job], group: Sequence[int], moved: Mapping[int, Path]) -> dict[int, Path]:
    """Folders of their own for those that meet, of one extension and from several folders; nothing where that fails."""
    sources = [jobs[index].item.source for index in group]
    files = [Path(os.path.abspath(source)) for source in sources if source is not None]  # noqa: PTH100
    parents, kinds = {file.parent for file in files}, {file.suffix for file in files}
    if len(files) < len(group) or len(parents) < len(group) or len(kinds) == len(group) or moved.keys() & set(group):
        return {}
    top = os.path.commonpath(parents)
    roots = [jobs[index].root for index in group]
    return {
        index: root / os.path.relpath(file.parent, top)
        for index, root, file in zip(group, roots, files, strict=True)
        if root is not None
    }


def _meeting(jobs: Sequence[Job], scales: Sequence[int], actual: Callable[[int], int | None]) -> list[list[int]]:
    """Groups of at least two jobs, by index, that would write one file."""
    possible: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        for scale in scales:
            if (path := job.path(scale)) is not None:
                same = possible.setdefault(os.path.abspath(path), [])  # noqa: PTH100 - Path.absolute keeps ".."
                if index not in same[-1:]:
                    same.append(index)
    contested = sorted({index for same in possible.values() if len(same) > 1 for index in same})
    groups: dict[str, list[int]] = {}
    for index in contested:
        found = actual(index)
        path = None if found is None else jobs[index].path(found)
        if path is not None:
            groups.setdefault(os.path.abspath(path), []).append(index)  # noqa: PTH100
    return [group for group in groups.values() if len(group) > 1]


def _told(jobs: Sequence[Job], actual: Callable[[int], int | None]) -> str | None:
    told = [(job.label, actual(index)) for index, job in enumerate(jobs) if job.apart and job.problem is None]
    if not told:
        return None
    index = next(index for index, job in enumerate(jobs) if job.apart and job.problem is None)
    path = jobs[index].path(told[0][1] or 1)
    more = f", and so on for {len(told) - 1} more" if len(told) > 1 else ""
    return f"inputs that differ in the extension alone keep it in the output's name: {told[0][0]} -> {path}{more}"


def _told_of_folders(jobs: Sequence[Job], moved: Sequence[int], actual: Callable[[int], int | None]) -> str | None:
    done = [index for index in moved if jobs[index].problem is None]
    if not done:
        return None
    job = jobs[done[0]]
    more = f", and so on for {len(done) - 1} more" if len(done) > 1 else ""
    return f"inputs of one name keep their folder: {job.label} -> {job.path(actual(done[0]) or 1)}{more}"
