"""The options that name scores, for `evaluate` and `check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from irnscale.cli.options import PATH

if TYPE_CHECKING:
    from irnscale.metrics.scores import Chosen


METRICS = click.option(
    "--metrics", default="psnr,ssim", show_default=True, metavar="LIST", help="Scores, joined by commas."
)
NIQE = click.option("--niqe", type=PATH, metavar="FILE", help="NIQE's numbers: the authors' .mat or .npz, or a .json.")
LPIPS = click.option("--lpips", type=PATH, metavar="FILE", help="AlexNet as torchvision stores it, for lpips.")


def chosen_scores(metrics: str, niqe: Path | None, lpips: Path | None) -> Chosen:
    """The scores that --metrics names, with the files that they read. Raises UsageError or InputError."""
    from irnscale.errors import UsageError
    from irnscale.metrics.scores import Files, chosen

    names = [name.strip().lower() for name in metrics.split(",") if name.strip()]
    for given, option, users in ((niqe, "--niqe", ("niqe", "lr-niqe")), (lpips, "--lpips", ("lpips",))):
        if given is not None and not set(users) & set(names):
            raise UsageError(f"{option} is for a score that is not asked for", f"add {users[0]} to --metrics")
    return chosen(names, Files(niqe, lpips))
