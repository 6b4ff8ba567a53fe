"""The entry point of the command line, ``noise2score``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import UserError
from . import _terminal as terminal
from ._calibrate_camera import calibrate_camera
from ._demo import demo
from ._denoise import denoise
from ._doctor import doctor
from ._estimate import estimate
from ._evaluate import evaluate
from ._export import export
from ._info import info
from ._simulate import simulate
from ._train import train

# depending on its version, typer bundles click or uses the installed one
Usage: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Self-supervised denoising: learn the score once, then choose and tune the noise model.",
)


def _print_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Self-supervised denoising: learn the score once, then choose and tune the noise model."""


COMMANDS = (
    demo, train, denoise, estimate, calibrate_camera, simulate, evaluate, export, info, doctor,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line and exit with the code described in `_terminal.run`."""
    sys.exit(terminal.run(_run, debug="--debug" in sys.argv))


def _run() -> int | None:
    # --debug in any position, as users append it to a command that has just failed
    words = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        code: int | None = typer.main.get_command(app)(words, standalone_mode=False)
    except Usage as error:
        # without a command, the message is the help text
        if words:
            raise UserError(" ".join(error.format_message().split())) from None
        print(error.format_message(), file=sys.stderr)
        return terminal.EXIT_USER_ERROR
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == terminal.EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return code
