"""What every command says: lines on stderr, one for each message and remark, and the end of its --help."""

from __future__ import annotations

import traceback

import click

from irnscale.errors import IrnscaleError, on_command_line, one_line

EPILOG = """\b
Exit codes:
  0    everything asked for is done
  1    some inputs failed; the others were written
  2    the command line is wrong, or contradicts the file's record
  3    a model is missing, corrupt or unfit
  4    a device is unavailable or out of memory
  5    an output could not be written (stdout counts), or exists already
  130  interrupted by Ctrl-C, SIGTERM or SIGHUP
Where all failures of a run are of one kind, its code is that kind's; else 1."""


def say(message: str) -> None:
    """What happened, on a line of stderr."""
    click.echo(one_line(on_command_line(message)), err=True)


def note(message: str) -> None:
    """Something that was chosen, or is odd, by the name of the program."""
    say(f"irnscale: {on_command_line(message)}")


def warn(message: str) -> None:
    """What people should know, as a warning."""
    say(f"irnscale: warning: {on_command_line(message)}")


def fail(error: IrnscaleError | str) -> None:
    """An error, with its remedy, as the command line spells it; with `--debug` its traceback, too."""
    if isinstance(error, IrnscaleError):
        context = click.get_current_context(silent=True)
        if context is not None:
            error.fit(options_of(context.command))
            if context.params.get("debug"):
                traceback.print_exception(error)
        error = error.line
    say(f"irnscale: error: {error}")


def options_of(command: click.Command) -> set[str]:
    """The names of a command's options and arguments, and of those of all commands in a group."""
    own = {parameter.name for parameter in command.params if parameter.name}
    return own.union(*(map(options_of, command.commands.values()) if isinstance(command, click.Group) else ()))
