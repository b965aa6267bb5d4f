"""The `irnscale` command: subcommands loaded on use, errors as one line and a documented exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from importlib import import_module
from typing import Any

import click

from irnscale._version import __version__
from irnscale.cli.console import EPILOG, fail, options_of
from irnscale.cli.interrupting import interruptible
from irnscale.cli.streams import open_standard_streams
from irnscale.errors import ExitCode, InputError, IrnscaleError

COMMANDS = {
    "down": "Shrink photographs so that `up` can restore them.",
    "up": "Restore small images made by `down` to full size.",
    "transfer": "Set a part of one picture into another, by SRFlow.",
    "check": "What photographs would lose: both ways in memory, with pictures and plots.",
    "info": "Size, depth, profile and irnscale record of image files.",
    "strip": "Remove the coded detail that small images carry.",
    "models": "List, show, verify, import and export models.",
    "demo": "Shrink and restore the photograph that comes with irnscale.",
    "doctor": "Versions, devices, precision and kernels in use.",
    "evaluate": "PSNR and SSIM of models and resizers on folders of photographs.",
    "bench": "Speed on this machine, beside the paper's way.",
    "train": "Train a network from a recipe.",
}

TILED = frozenset(("down", "up", "check"))
"""Commands whose threads have a tile each.

OpenMP's threads wait for work by spinning: that helps no tile, and on a busy machine takes the time of those that are
waited for. Training, whose threads share operations, would be half as fast without.
"""


class LazyGroup(click.Group):
    """Imports a subcommand's module only when it runs; --help and `info` must not import torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group`: the names of all commands, none of them imported."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group`: the command of a name, imported now; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"irnscale.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """See `click.Group`; an error that ends the command gets a remedy that the command has."""
        try:
            return super().invoke(ctx)
        except EOFError as error:  # click takes it for the end of what is typed at a prompt; irnscale has none
            what = f"a file ends before it should: {error}"
            raise InputError(what, "run again with --debug, which shows where it is read") from error
        except IrnscaleError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            if command is not None:
                error.fit(options_of(command))
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Group`: the list in --help, from `COMMANDS` alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="irnscale")
def group() -> None:
    """Shrink photographs so that they can be blown up again almost losslessly.

    \b
      irnscale down photo.png -s 4       photo_down4x.png: a quarter of each side
      irnscale up photo_down4x.png       photo_down4x restored to its original size
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; no exception leaves it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--debug" not in arguments:
        warnings.simplefilter("ignore")
        return _main(arguments, debug=False)
    from irnscale.cli.debugging import log_on_stderr

    with log_on_stderr():
        return _main(arguments, debug=True)


def _main(arguments: list[str], *, debug: bool) -> int:
    try:
        if not {"-h", "--help", "--version"} & set(arguments):
            _check_working_folder()
        with interruptible():
            result = group.main(args=arguments, prog_name="irnscale", standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.OK
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.UsageError as error:
        fail(f"{error.format_message()} ({_remedy(error, arguments)})")
        return ExitCode.USAGE
    except click.ClickException as error:
        fail(error.format_message())
        return error.exit_code
    except IrnscaleError as error:
        if debug:
            traceback.print_exc()
        fail(error.line)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("irnscale: interrupted", err=True)
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence of a command-line tool
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            fail(f"{error.filename or 'a file'}: could not be written: {error.strerror} (free some space)")
            return ExitCode.OUTPUT
        text = " ".join(str(error).split())[:300]
        fail(f"internal error: {type(error).__name__}: {text} (run again with --debug and report it)")
        return ExitCode.INPUT


def _remedy(error: click.UsageError, arguments: list[str]) -> str:
    """What to do where click refuses the arguments."""
    files = [word for word in arguments if word.startswith("-") and os.path.lexists(word)]
    if files and isinstance(error, click.NoSuchOption):
        return f"for the file of that name write ./{files[0]}"
    return f"see `{error.ctx.command_path if error.ctx else 'irnscale'} --help`"


def _check_working_folder() -> None:
    """Raise InputError where it was deleted: no relative name means anything, and some libraries end the process."""
    try:
        os.getcwd()  # noqa: PTH109 - the same, and says what it does
    except OSError as error:
        raise InputError(f"the working folder cannot be used: {error.strerror}", "cd to one that exists") from error


def run(arguments: list[str] | None = None) -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if TILED.intersection(arguments[:1]):
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    open_standard_streams()
    sys.exit(main(arguments))
