"""`irnscale evaluate`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from irnscale.cli.options import DEBUG, DEVICE, NO_PROGRESS, OVERWRITE, PATH, PRECISION
from irnscale.cli.scoring import LPIPS, METRICS, NIQE

COMMANDS = {
    "bits": "irnscale.cli.bits",
    "experiment": "irnscale.cli.experiment",
    "glow": "irnscale.cli.glow",
    "lipschitz": "irnscale.cli.lipschitz",
    "metrics": "irnscale.cli.cheating",
}
"""`irnscale evaluate WORD ...`, with options of its own: the module whose `evaluate` it is."""


class EvaluateCommand(click.Command):
    """`irnscale evaluate`, or one of COMMANDS."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """See `click.Command`; what looks like a subcommand is parsed by it."""
        if args and args[0] in COMMANDS:
            other: click.Command = import_module(COMMANDS[args[0]]).evaluate
            return other.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=EvaluateCommand)
@click.option("--data", "folders", type=PATH, multiple=True, metavar="DIR", help="A set: a folder of photographs.")
@click.option("-s", "--scale", "scales", metavar="LIST", help="Scales, joined by commas; 2,4 where no model is named.")
@click.option("-m", "--model", "names", multiple=True, metavar="NAME|FILE", help="Instead of all installed models.")
@click.option("--jpeg", metavar="QUALITIES", help="Store the LR as JPEG too, at qualities joined by commas.")
@click.option("--subsampling", default="4:2:0", show_default=True, help="Chroma of --jpeg, joined by commas.")
@click.option("--detail", metavar="LIST", help="Also files that carry detail: 1, 2, 3 bits or exact, joined by commas.")
@click.option(
    "--attach",
    metavar="LIST",
    help="Also files with detail attached: sizes or qualities as for `down`, joined by commas; to each --jpeg or PNG.",
)
@click.option("--sr", is_flag=True, help="Also the models on bicubic small pictures: super-resolution.")
@click.option("--temperature", metavar="T", help="Also the models with z ~ N(0, T^2); several joined by commas.")
@click.option("--draws", type=click.IntRange(1), default=5, show_default=True, help="Draws per --temperature.")
@click.option("--seed", type=click.IntRange(0, 2**63), default=0, show_default=True, help="Of the first draw.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME=COMMAND",
    help="Also another program, from PNG {in} to {out}, enlarged {scale} times to {width} x {height} pixels.",
)
@click.option(
    "--method-down",
    "methods_down",
    multiple=True,
    metavar="NAME=COMMAND",
    help="How the --method of this name reduces; else it enlarges bicubic small pictures.",
)
@click.option("--no-baselines", is_flag=True, help="Without bicubic and Lanczos.")
@click.option("--luma", type=click.Choice(["unrounded", "rounded"]), default="unrounded", show_default=True)
@click.option("--fast", is_flag=True, help="Compare in float32 on the device, and say what that changes.")
@METRICS
@NIQE
@LPIPS
@click.option("--limit", type=click.IntRange(min=1), help="At most so many photographs of a folder.")
@click.option("--crop-to", type=click.IntRange(min=1), help="Crop to multiples of this [default: of the scale].")
@click.option("--cache", type=PATH, help="Keep results in this folder [default: the user's cache folder].")
@click.option("--no-cache", is_flag=True, help="Measure everything anew, and keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per set, method and codec on stdout.")
@click.option("--csv", "csv_path", type=PATH, help="A row per photograph to a file.")
@click.option("--report", type=PATH, help="A self-contained HTML page to a file.")
@click.option("--crops", type=click.IntRange(0), default=2, show_default=True, help="Photographs to look at per set.")
@click.option("--update-card", is_flag=True, help="Write the scores on the models' cards.")
@click.option(
    "--precision-costs",
    is_flag=True,
    help="Also each model in float32 and in bfloat16; with --update-card the difference goes on its card.",
)
@click.option(
    "--fit-niqe",
    type=PATH,
    metavar="FILE.json",
    help="Instead: NIQE's model of the photographs in --data, for --niqe.",
)
@click.option("--readme", type=PATH, help="Put the tables of the shipped models' cards into this Markdown file.")
@click.option(
    "--rate-distortion",
    type=PATH,
    metavar="PAGE.md",
    help="Instead: quality over bytes beside JPEG, WebP and AVIF, into this page (where it "
    "exists, into its block of curves), with .svg and .csv beside it.",
)
@OVERWRITE
@NO_PROGRESS
@DEVICE
@PRECISION
@DEBUG
def command(debug: bool, **values: Any) -> int:
    """Measure models and ordinary resizers on folders of photographs, side by side.

    PSNR (dB) and SSIM of the restored picture against the original (HR), and of the small one against bicubic (LR),
    means over a folder. Photographs are cropped to multiples of the scale; `scale` pixels are cut off every side before
    comparing HR. A photograph that cannot be read is named, left out, and makes the exit code 1.

    \b
    With --luma rounded, luma is in whole numbers and gray pictures are compared as they are: how the
    published rows of bicubic were made.

    --detail and --attach add each model through the files that `down` writes so: scores of the network alone, and in
    columns of their own those with detail. Only lossless small pictures have --detail.

    \b
    Further --metrics, of whole pictures without the detail; lower is better where nothing is said:
      lr-psnr      the small picture against bicubic of the restored one, RGB; higher is better
      diversity    deviation over the draws of --temperature, in grey levels; higher is more
      lpips        distance in AlexNet's features; needs --lpips FILE with its weights
      house-lpips  the same in features of our own, which compare with no paper
      frechet-house, kid-house   how far the set of all restored patches is from that of the original ones,
                   in these features: by mean and covariance, and by a kernel; of the set, not of a photograph
      niqe         statistics of patches, against the authors' numbers in --niqe FILE
      niqe-house   the same against our training photographs; compares with no paper
      piqe         share of busy blocks that look blocky or noisy, 0 to 100
      brisque      what people would say, about 0 to 100; needs pip install 'irnscale[iqa]'
    The last four as lr-niqe ... of the small picture, too. With one of them the photographs themselves
    are a row, "full size": what a perfect restoration would read. Numbers by one network or model compare with one
    another alone: its digest stands below the table.

    --temperature adds each model with sampled z: means over --draws, and the spread of the sets' means between them.

    \b
    --method measures any program in the same table, for example
      --method 'magick=magick {in} -filter Lanczos -resize {width}x{height}! {out}'
    It is run without a shell, once per picture, and its seconds include its start. With a --method-down
    it is given the very file that the other wrote. Results are kept by the command and the files it names.

    --update-card keeps HR and LR luma of the models named with -m, in rows of their own those with --detail in the last
    bits; models that are JPEG-resistant are measured through JPEG 30, 50, 70, 80 and 90 too, unless --jpeg says
    otherwise. With --precision-costs the card also keeps what
    bfloat16 loses; a model that loses more than 0.03 dB on any set is run in float32 unless told otherwise.

    \b
    Commands of their own, each with --help:
      irnscale evaluate bits         bits per dimension of networks that draw samples
      irnscale evaluate experiment   every experiment of the dissertation by its name
      irnscale evaluate glow         flows on 8x8 digits, in FrEIA and in PyTorch
      irnscale evaluate lipschitz    how much a network and its inverse stretch
      irnscale evaluate metrics      how scores can be cheated
    """
    from irnscale.cli.evaluate_request import Request
    from irnscale.cli.evaluate_run import run

    return run(Request(**values))
