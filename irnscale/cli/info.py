"""`irnscale info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from irnscale.cli.options import DEBUG
from irnscale.errors import ExitCode, IrnscaleError


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@DEBUG
def command(files: tuple[str, ...], as_json: bool, debug: bool) -> int:
    """Size, depth, profile and irnscale record of image files."""
    from irnscale.cli.main import fail
    from irnscale.images.inspect import describe

    code = ExitCode.OK
    for name in files:
        try:
            facts = describe(Path(name))
        except IrnscaleError as error:
            fail(error.line)
            code = error.exit_code
            continue
        click.echo(json.dumps({"file": name, **facts}) if as_json else _text(name, facts))
    return code


def _text(name: str, facts: dict[str, Any]) -> str:
    facts = {key: ", ".join(value) if isinstance(value, list) else value for key, value in facts.items()}
    record = facts.pop("provenance", None)
    lines = [f"{name}:"]
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
