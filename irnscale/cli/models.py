"""`irnscale models list|show|verify|import|export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from irnscale.cli.options import DEBUG
from irnscale.errors import ExitCode, ModelError


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@DEBUG
@click.pass_context
def command(ctx: click.Context, debug: bool) -> int:
    """List, show, verify, import and export models."""
    if ctx.invoked_subcommand is None:
        result: int = ctx.invoke(list_models)
        return result
    return ExitCode.OK


@command.command("list")
@DEBUG
def list_models(debug: bool = False) -> int:
    """One line per model: name, scale, where it is, Set5 score."""
    from irnscale.zoo import models

    broken: dict[Path, ModelError] = {}
    rows = [("NAME", "SCALE", "JPEG", "FROM", "SET5 HR", "SET5 LR")]
    for model in models(broken):
        card = model.card
        score = card.scores.get("Set5", {})
        rows.append(
            (
                card.name,
                f"x{card.scale}" if card.kind == "irn" else f"x{card.scale} --sr",
                "yes" if card.jpeg_resistant else "no",
                "shipped" if model.shipped else "archive" if model.archived else str(model.weights.parent),
                f"{score['psnr_y']:.2f} dB" if "psnr_y" in score else "-",
                f"{score['lr_psnr_y']:.2f} dB" if "lr_psnr_y" in score else "-",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    click.echo("\n".join(lines))  # in one piece, so that `| head -1` cuts nothing short
    return report_broken(broken)


def report_broken(broken: dict[Path, ModelError]) -> int:
    """Say which cards could not be read. Returns the exit code."""
    from irnscale.cli.main import fail

    for error in broken.values():
        fail(str(error))
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
    from irnscale.cli.main import fail
    from irnscale.zoo import find, models, verify

    bad = 0
    broken: dict[Path, ModelError] = {}
    for model in [find(name) for name in names] or models(broken):
        try:
            verify(model)
            click.echo(f"{model.card.name}: ok")
        except ModelError as error:
            fail(str(error))
            bad += 1
    return ExitCode.MODEL if report_broken(broken) or bad else ExitCode.OK


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What to call the model.")
@click.option("--overwrite", is_flag=True, help="Replace a model of that name.")
@DEBUG
def import_model(file: Path, name: str, overwrite: bool, debug: bool) -> int:
    """Import a .pth in the naming of the paper's code, such as the authors' official weights.

    Nothing in the file is executed. The model is kept as float16 safetensors in $IRNSCALE_MODELS or the user's data
    folder.
    """
    from irnscale.zoo import new_folder
    from irnscale.zoo.cards import file_sha256
    from irnscale.zoo.official import read_official
    from irnscale.zoo.save import save_model

    _check_name(name)
    config, tensors = read_official(file)
    model = save_model(
        new_folder(),
        name,
        config,
        tensors,
        overwrite=overwrite,
        description=f"IRN x{config.scale}, imported",
        origin=f"{file.name}, sha256 {file_sha256(file)}",
        licence="that of the imported file",
    )
    click.echo(f"{model.weights}: IRN x{config.scale}, use it with -m {name}", err=True)
    return ExitCode.OK


@command.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What to call the model.")
@click.option("--to", type=click.Path(path_type=Path), help="Folder [default: where imported models go].")
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
    card: dict[str, Any] = {
        "origin": f"run {state['run_id']}, step {state['step']}",
        "training": {"recipe": state["recipe"], "steps": state["step"], "seconds": round(state["seconds"])},
    }
    folder = to or new_folder()
    called = name if to is None else folder / f"{name}.safetensors"
    if recipe.assistant_of:
        from irnscale.train.assistance import assisted_model

        base = assisted_model(recipe)
        if (trained := state.get("base_digest", base.card.digest)) != base.card.digest:
            raise ModelError(
                f"{run}: was trained for other weights of {base.card.name} ({trained}) than the installed ones "
                f"({base.card.digest})",
                "train it again, or install those weights",
            )
        description = f"assistant of {base.card.name} for super-resolution, trained with the recipe {recipe.name}"
        model = save_model(
            folder, name, recipe.assistant(), tensors, overwrite=overwrite, base=base, description=description, **card
        )
        click.echo(
            f"{model.weights}: use it with `irnscale up --sr -m {name if to is None else model.weights}`", err=True
        )
        return ExitCode.OK
    if recipe.blocks:
        description = f"super-resolution x{recipe.scale}, trained with the recipe {recipe.name}"
        config = recipe.super_resolution()
        model = save_model(folder, name, config, tensors, overwrite=overwrite, description=description, **card)
        click.echo(
            f"{model.weights}: use it with `irnscale up --sr -m {name if to is None else model.weights}`", err=True
        )
        return ExitCode.OK
    model = save_model(
        folder,
        name,
        recipe.network(),
        tensors,
        overwrite=overwrite,
        jpeg_resistant=recipe.compression_mode,
        description=f"IRN x{recipe.scale}, trained with the recipe {recipe.name}",
        **card,
    )
    click.echo(f"{model.weights}: use it with -m {called}", err=True)
    return ExitCode.OK


def _check_name(name: str, *, shipped: bool = False) -> None:
    """Before any work. Raises ModelError; where `shipped` is set, a shipped or archived model's name will do."""
    from irnscale.zoo import models
    from irnscale.zoo.save import check_name

    check_name(name)
    if not shipped and any((m.shipped or m.archived) and m.card.name == name for m in models({})):
        raise ModelError(f"{name!r} is the name of a model that comes with irnscale", "choose another --name")
