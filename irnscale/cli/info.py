"""`irnscale info`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click

from irnscale.cli.console import fail
from irnscale.cli.options import DEBUG
from irnscale.errors import ExitCode, InputError, IrnscaleError, UsageError, one_line


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@DEBUG
def command(files: tuple[str, ...], as_json: bool, debug: bool) -> int:
    """Size, depth, profile and irnscale record of image files. FILE may be - for stdin."""
    from irnscale import batch
    from irnscale.images.inspect import describe

    code = ExitCode.OK
    for item in batch.collect(batch.Selection(files)).items:
        try:
            data = batch.read_source(item, searched=False)
            facts = describe(data, item.label)
            problems = _problems(data, facts)
        except UsageError:  # stdin is a terminal
            raise
        except IrnscaleError as error:
            fail(error)
            code = error.exit_code
            continue
        facts["note"] = "; ".join([*problems, *filter(None, [facts["note"]])]) or None
        click.echo(json.dumps(facts) if as_json else _text(facts))
    return code


def _problems(data: bytes, facts: dict[str, Any]) -> list[str]:
    """What has become of the detail that the record tells of; for that the pixels are decoded."""
    from irnscale.detail.finding import as_written, doubts, layers_of
    from irnscale.engine.exactly import exact_layer
    from irnscale.images.read import read_picture

    said = facts["provenance"]
    if said is None or said["detail"] is None:
        return []
    try:
        picture = as_written(read_picture(data, facts["file"], frames="first"))
    except InputError as error:
        return [f"whether its detail is whole cannot be told: {error.what.removeprefix(facts['file'] + ': ')}"]
    record = picture.record
    if record is None:
        return []
    layer = None if picture.attachment is None else exact_layer(picture)
    picture = replace(picture, layers=layers_of(picture, record))
    return doubts(picture, record, exact=layer is not None and layer.complete)


def _text(facts: dict[str, Any]) -> str:
    facts = {key: ", ".join(value) if isinstance(value, list) else value for key, value in facts.items()}
    name, record = facts.pop("file"), facts.pop("provenance", None)
    lines = [f"{one_line(name)}:"]
    lines += [f"  {key.replace('_', ' ')}: {value}" for key, value in facts.items() if value not in (None, "", [])]
    if record is None:
        return "\n".join([*lines, "  irnscale: no record"])
    verb = "small image made by `irnscale down`" if record["kind"] == "down" else "restored by `irnscale up`"
    lines.append(f"  irnscale: {verb} with {record['model']} ({record['digest']}), x{record['scale']}")
    lines.append(f"  original: {record['width']}x{record['height']}")
    if record["detail"] is not None:
        from irnscale.detail.finding import describe_detail

        lines.append(f"  detail: {describe_detail(record['detail'])}")
    return "\n".join(lines)
