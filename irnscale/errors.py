"""Exit codes and the errors that carry them.

Every failure a user can meet is an `IrnscaleError`: one line that names the file and the remedy.
The command line turns it into its exit code; library users catch it.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_SHORT = {"model": "-m", "null": "-0", "recursive": "-r", "scale": "-s", "target": "-o", "threads": "-j"}
"""The parameters whose options are better known by one letter."""


class ExitCode(IntEnum):
    """What the process tells the shell."""

    OK = 0
    INPUT = 1
    USAGE = 2
    MODEL = 3
    DEVICE = 4
    OUTPUT = 5
    INTERRUPTED = 130


def one_line(text: str) -> str:
    """The text on one line that a terminal shows as it is: blanks joined, control characters escaped.

    File names may hold anything: newlines, escape sequences, bytes that are no UTF-8.
    """
    text = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _joined(what: str, hint: str) -> str:
    return f"{what} ({hint})" if hint else what


def _with_options(text: str, parameters: tuple[str, ...]) -> str:
    """The text with what it says of `parameters` as the command line spells it.

    name=value becomes --name value, name=True and name=False become --name and --no-name, and `name` in backticks
    becomes --name.
    """
    for name in parameters:
        long = name.replace("_", "-")
        option = _SHORT.get(name, f"--{long}")
        for said, spelled in ((r"True\b", option), (r"False\b", f"--no-{long}"), ("", f"{option} ")):
            text = re.sub(rf"(?<![\w-]){name}={said}", spelled, text)
        text = text.replace(f"`{name}`", option)
    return text


class Remark(str):
    """A sentence to people that names `parameters` of the Python API, as name=value or `name` in backticks."""

    parameters: tuple[str, ...]

    def __new__(cls, text: str, *parameters: str) -> Self:
        remark = super().__new__(cls, text)
        remark.parameters = parameters
        return remark


def on_command_line(text: str) -> str:
    """A remark as the command line shows it, with its options; any other text as it is."""
    return _with_options(text, text.parameters) if isinstance(text, Remark) else text


class IrnscaleError(Exception):
    """Base of all errors that users are meant to see: `what` happened and, as `hint`, what to do.

    `parameters` of the Python API are named in them as name=value or `name`; the command line shows its options.
    `otherwise` is the hint where a command has not all of those options.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INPUT

    def __init__(
        self, what: str, hint: str = "", *, parameters: tuple[str, ...] = (), otherwise: str | None = None
    ) -> None:
        self.what = one_line(what)
        self.hint = one_line(hint)
        self.parameters = parameters
        self.otherwise = None if otherwise is None else one_line(otherwise)
        super().__init__(_joined(self.what, self.hint))

    def __str__(self) -> str:
        return _joined(self.what, self.hint)

    def fit(self, options: Collection[str]) -> None:
        """Give the hint `otherwise`, where there is one and not all `parameters` are among a command's options."""
        if self.otherwise is not None and not set(self.parameters) <= set(options):
            self.hint = self.otherwise

    @property
    def on_command_line(self) -> tuple[str, str]:
        """`what` and `hint` with the `parameters` of the Python API that they name as options."""
        return _with_options(self.what, self.parameters), _with_options(self.hint, self.parameters)

    @property
    def line(self) -> str:
        """What the command line prints."""
        return _joined(*self.on_command_line)


class InputError(IrnscaleError):
    """An input could not be read or processed; others in the batch may still succeed."""

    exit_code = ExitCode.INPUT


class UsageError(IrnscaleError):
    """Options contradict each other or the file's record."""

    exit_code = ExitCode.USAGE


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise UsageError where the parameter `name` has a value that is none of its choices."""
    if value not in choices:
        known = ", ".join(str(choice) for choice in choices if choice is not None)
        raise UsageError(f"{name}={value}: unknown", f"choose one of {known}", parameters=(name,))


class ModelError(IrnscaleError):
    """A model is missing, corrupt or does not fit the request."""

    exit_code = ExitCode.MODEL


class DeviceError(IrnscaleError):
    """The device is not there, lacks an ability that was asked for, or ran out of memory."""

    exit_code = ExitCode.DEVICE


class OutputError(IrnscaleError):
    """The output could not be written, or exists and may not be replaced."""

    exit_code = ExitCode.OUTPUT
