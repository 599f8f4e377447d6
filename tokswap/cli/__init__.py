"""The command line: parse, call one function, print.

Results go to stdout, progress and errors to stderr. Exit codes: 0, 1 (an error that the user can
mend, in one line), 2 (usage), 130 (interrupted). Any other exception is a bug and keeps its
traceback. Nothing slow is imported before a command runs, so that help answers at once.
"""

import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Annotated, NoReturn

import typer

from tokswap import ranks
from tokswap.cli.apply import apply_command
from tokswap.cli.check import check_command
from tokswap.cli.compare import compare_command
from tokswap.cli.embed import embed_command
from tokswap.cli.evaluate import evaluate_command
from tokswap.cli.extend import extend_command
from tokswap.cli.held_out import held_out_command
from tokswap.cli.hypernet import hypernet_app
from tokswap.cli.inspect import inspect_command
from tokswap.cli.listing import methods_command, models_command
from tokswap.cli.transplant import run_command, transplant_command
from tokswap.errors import TokswapError

INTERRUPTED = 130
"""Exit code of a process that was stopped by SIGINT or SIGTERM."""

app = typer.Typer(
    name="tokswap",
    help="Give a language model another model's tokenizer, without training.",
    epilog="First try: tokswap transplant --base tiny-llama --donor tiny-mistral --out out/demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("transplant")(transplant_command)
app.command("run")(run_command)
app.command("apply")(apply_command)
app.command("extend")(extend_command)
app.command("eval")(evaluate_command)
app.command("inspect")(inspect_command)
app.command("held-out")(held_out_command)
app.command("compare")(compare_command)
app.command("check")(check_command)
app.add_typer(hypernet_app, name="hypernet")
app.command("embed")(embed_command)
app.command("methods")(methods_command)
app.command("models")(models_command)


def _version(asked: bool) -> None:
    if asked:
        import importlib.metadata

        typer.echo(f"tokswap {importlib.metadata.version('tokswap')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit the process with its code.

    Raises:
        SystemExit: Always.
    """
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        app(standalone_mode=True)
    except TokswapError as error:
        _fail(str(error))
    except OSError as error:  # a disk, a folder or a pipe that the system refuses
        place = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{place}; check the path and the disk")
    except SystemExit as stop:
        if stop.code == INTERRUPTED and not ranks.number():  # typer has caught the interrupt
            typer.echo("interrupted; nothing unfinished was kept", err=True)
        raise


def _fail(message: str) -> NoReturn:
    if ranks.number():
        # The first rank tells. Give it time: a launcher ends all of them when one ends.
        with suppress(KeyboardInterrupt):
            time.sleep(3)
    else:
        typer.echo(f"error: {message}", err=True)
    sys.exit(1)


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
