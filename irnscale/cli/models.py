"""`irnscale models list|show|verify|import|export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from irnscale.cli.console import fail, say
from irnscale.cli.options import DEBUG, PATH
from irnscale.columns import aligned
from irnscale.errors import ExitCode, ModelError, OutputError, UsageError

if TYPE_CHECKING:
    from irnscale.zoo import Model


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@DEBUG
@click.pass_context
def command(ctx: click.Context, debug: bool) -> int:
    """List, show, verify, import, simplify and export models."""
    if ctx.invoked_subcommand is None:
        result: int = ctx.invoke(list_models)
        return result
    return ExitCode.OK


@command.command("list")
@DEBUG
def list_models(debug: bool = False) -> int:
    """One line per model: name, scale, what it is for, where it is, Set5 score, what bfloat16 costs at most."""
    from irnscale.zoo import models

    broken: dict[Path, ModelError] = {}
    rows = [("NAME", "SCALE", "FOR", "JPEG", "FROM", "SET5 HR", "SET5 LR", "BFLOAT16")]
    for model in models(broken):
        card = model.card
        score = card.scores.get("Set5", {})
        rows.append(
            (
                card.name,
                f"x{card.scale}",
                _purpose(model),
                "yes" if card.jpeg_resistant else "no",
                "shipped" if model.shipped else "archive" if model.archived else str(model.weights.parent),
                f"{score['psnr_y']:.2f} dB" if "psnr_y" in score else "-",
                f"{score['lr_psnr_y']:.2f} dB" if "lr_psnr_y" in score else "-",
                "-" if (cost := card.cost("bfloat16")) is None else f"{0 - cost:+.3f} dB",
            )
        )
    click.echo("\n".join(aligned(rows, words=len(rows[0]))))  # in one piece, so that `| head -1` cuts nothing short
    return report_broken(broken)


def _purpose(model: Model) -> str:
    """The commands that a model is for, and the model that it goes with; "?" where its family is not installed."""
    purposes = {"rescaling": "down, up", "super-resolution": "up --sr"}
    purposes |= {"assistance": f"up --sr, before {model.card.base}", "completion": f"up, completes {model.card.base}"}
    return purposes.get(str(model.task), "?")


def report_broken(broken: dict[Path, ModelError]) -> int:
    """Say which cards could not be read. Returns the exit code."""
    for error in broken.values():
        fail(error)
    return ExitCode.MODEL if broken else ExitCode.OK


@command.command("show")
@click.argument("name")
@DEBUG
def show(name: str, debug: bool) -> int:
    """The card of a model, as JSON."""
    from irnscale.zoo import find

    click.echo(find(name).card.to_json(), nl=False)
    return ExitCode.OK


@command.command("verify")
@click.argument("names", nargs=-1)
@DEBUG
def verify_models(names: tuple[str, ...], debug: bool) -> int:
    """Check that weights are the bytes that their cards describe [default: all models]."""
    from irnscale.zoo import find, models, verify

    bad = 0
    broken: dict[Path, ModelError] = {}
    for model in [find(name) for name in names] or models(broken):
        try:
            verify(model)
            click.echo(f"{model.card.name}: ok")
        except ModelError as error:
            fail(error)
            bad += 1
    return ExitCode.MODEL if report_broken(broken) or bad else ExitCode.OK


@command.command("import")
@click.argument("file", type=PATH)
@click.option("--name", required=True, help="What to call the model.")
@click.option("--overwrite", is_flag=True, help="Replace a model of that name.")
@DEBUG
def import_model(file: Path, name: str, overwrite: bool, debug: bool) -> int:
    """Import a .pth in the naming of the paper's code, or of SRFlow's, such as the authors' official weights.

    Nothing in the file is executed. The model is kept as float16 safetensors in $IRNSCALE_MODELS or the user's data
    folder.
    """
    from irnscale.networks.family import find_family
    from irnscale.zoo import new_folder
    from irnscale.zoo.cards import file_sha256
    from irnscale.zoo.official import read_official
    from irnscale.zoo.save import save_model

    _check_name(name)
    config, tensors = read_official(file)
    family = find_family(config.kind)
    title = family.title.format(scale=config.scale)
    model = save_model(
        new_folder(),
        name,
        config,
        tensors,
        overwrite=overwrite,
        description=f"{title}, imported",
        origin=f"{file.name}, sha256 {file_sha256(file)}",
        licence="that of the imported file",
    )
    use = f"-m {name}" if family.task == "rescaling" else f"`irnscale up --sr -m {name}`"
    say(f"{model.weights}: {title}, use it with {use}")
    return ExitCode.OK


@command.command("simplify")
@click.argument("source", metavar="NAME")
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=PATH,
    metavar="PATH",
    help="Photographs to measure on: a folder, an archive or a file. May be repeated.",
)
@click.option("--name", required=True, help="What to call the simpler model.")
@click.option("--loss", type=float, default=0.1, show_default=True, help="How many dB of luma PSNR it may lose.")
@click.option("--limit", type=click.IntRange(min=1), default=16, show_default=True, help="How many photographs.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--overwrite", is_flag=True, help="Replace a model of that name.")
@DEBUG
def simplify_model(
    source: str,
    data: tuple[Path, ...],
    name: str,
    loss: float,
    limit: int,
    device: str,
    overwrite: bool,
    debug: bool,
) -> int:
    """Find which scale networks of a model may be constants, and write it with these as a model of your own.

    A constant one costs nothing: up to a third of the work. What the simpler model loses, the restored or the small
    picture, whichever loses more, is measured on the middle 128 x 128 of the photographs, in minutes on a CPU.
    Fine-tuning wins it back: a recipe with init and the constant_scales of the card.
    """
    from dataclasses import replace

    from irnscale.engine.device import choose_device
    from irnscale.networks import IRN
    from irnscale.train.simplify import middle, simplify
    from irnscale.train.validate import validation_images
    from irnscale.zoo import find, load_network, new_folder
    from irnscale.zoo.save import save_model

    _check_name(name)
    if not loss >= 0:
        raise UsageError(f"--loss {loss} must not be negative")
    target = new_folder() / f"{name}.safetensors"
    if target.exists() and not overwrite:
        raise OutputError(f"{target}: exists already", "choose another --name or add --overwrite")
    model = find(source)
    net = load_network(model)
    if not isinstance(net, IRN):
        raise ModelError(f"{source}: is no IRN, whose scale networks these are", "choose another model")
    net.to(choose_device(device))
    place = next(net.parameters()).device
    images = validation_images(list(data), scale=net.scale, limit=limit)
    pictures = [middle(image, net.scale).to(place) for image in images]
    given = sum(net.scale_block(number).is_constant for number in net.config.couplings)
    before, after, constant = simplify(
        net,
        pictures,
        loss=loss,
        compressed=model.card.jpeg_resistant,
        say=say,
    )
    if len(constant) == given:
        raise ModelError(f"{source}: no scale network can be a constant within {loss} dB", "allow more with --loss")
    result = save_model(
        new_folder(),
        name,
        replace(net.config, constant_scales=constant),
        net.state_dict(),
        overwrite=overwrite,
        jpeg_resistant=model.card.jpeg_resistant,
        description=f"{model.card.name} with constant scales",
        origin=f"{model.card.name} ({model.card.digest}), simplified",
        data=model.card.data,
        licence=model.card.licence,
    )
    click.echo(
        f"{result.weights}: {len(constant)} of {len(net.config.couplings)} scales are constant; on {len(pictures)} "
        f"photographs HR {before.hr:.2f} -> {after.hr:.2f} dB, LR {before.lr:.2f} -> {after.lr:.2f} dB; "
        f"use it with -m {name}",
        err=True,
    )
    return ExitCode.OK


@command.command("export")
@click.argument("run", type=PATH)
@click.option("--name", required=True, help="What to call the model.")
@click.option("--to", type=PATH, help="Folder [default: where imported models go].")
@click.option("--overwrite", is_flag=True, help="Replace a model of that name.")
@DEBUG
def export_model(run: Path, name: str, to: Path | None, overwrite: bool, debug: bool) -> int:
    """Turn the averaged weights of a training run into a model with its card."""
    from irnscale.train.checkpoints import export
    from irnscale.train.config import recipe_from_dict
    from irnscale.zoo import new_folder
    from irnscale.zoo.save import save_model

    _check_name(name, shipped=to is not None)
    tensors, state = export(run)
    recipe = recipe_from_dict(state["recipe"])
    family, base = recipe.family, recipe.objective.base_model()
    if family.task == "density":
        what = f"{run}: a network of the family {family.kind} makes no small or large pictures, which models are for"
        raise UsageError(what, "what it draws is in the run's samples.png")
    folder = to or new_folder()
    called = name if to is None else folder / f"{name}.safetensors"
    if base is not None and (trained := state.get("base_digest", base.card.digest)) != base.card.digest:
        raise ModelError(
            f"{run}: was trained for other weights of {base.card.name} ({trained}) than the installed ones "
            f"({base.card.digest})",
            "train it again, or install those weights",
        )
    title = family.title.format(scale=recipe.scale, base=base.card.name if base else "")
    model = save_model(
        folder,
        name,
        recipe.network,
        tensors,
        overwrite=overwrite,
        base=base,
        jpeg_resistant=recipe.objective.jpeg_resistant,
        description=f"{title}, trained with the recipe {recipe.run.name}",
        origin=f"run {state['run_id']}, step {state['step']}",
        training={"recipe": state["recipe"], "steps": state["step"], "seconds": round(state["seconds"])},
    )
    ways = {"rescaling": f"-m {called}", "completion": f"`irnscale up -m {called}`"}
    use = ways.get(family.task, f"`irnscale up --sr -m {called}`")
    say(f"{model.weights}: use it with {use}")
    return ExitCode.OK


def _check_name(name: str, *, shipped: bool = False) -> None:
    """Before any work. Raises ModelError; where `shipped` is set, a shipped or archived model's name will do."""
    from irnscale.zoo import models
    from irnscale.zoo.save import check_name

    check_name(name)
    if not shipped and any((m.shipped or m.archived) and m.card.name == name for m in models({})):
        raise ModelError(f"{name!r} is the name of a model that comes with irnscale", "choose another --name")
