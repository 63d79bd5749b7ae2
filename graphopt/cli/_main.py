"""The entry point: runs a command and turns whatever happens into a message and an exit code.

0 done · 1 a check failed · 2 bad usage or input · 3 inconclusive · 4 environment · 5 a bug · 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib.metadata
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

import click

from graphopt.cli._group import LazyGroup
from graphopt.cli._printable import printable
from graphopt.errors import BadInput, EnvironmentProblem, GraphoptError

__all__ = ["cli", "main"]

BUG = 5  # exit code of what no error class stands for
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_SUCH_PLACE = {errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR}
_SHOWN = 200  # characters of a path that is too long: enough to know it again


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"graphopt {importlib.metadata.version('graphopt')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy={
        "optimize": ("graphopt.cli._optimize", "Make a fast, checked package from a model."),
        "export": ("graphopt.cli._export", "Make a package from a model as it is."),
        "run": ("graphopt.cli._run", "Generate text, or run a package on arrays."),
        "validate": ("graphopt.cli._validate", "Measure a package's accuracy against its source."),
        "bench": ("graphopt.cli._bench", "Measure a package's speed, alone or against another."),
        "gate": ("graphopt.cli._gate", "Decide whether a package may ship: exit code 0, 1 or 3."),
        "plan": ("graphopt.cli._plan", "Say which recipe, bits and machine serve a model best."),
        "bisect": ("graphopt.cli._bisect", "Find the edit that makes a package bad."),
        "inspect": ("graphopt.cli._inspect", "Show a model's interface, operators and size."),
        "lint": ("graphopt.cli._lint", "Find silent cliffs and known miscompiles in a model."),
        "diff": ("graphopt.cli._diff", "Show what changed between two graphs, by region."),
        "compare": ("graphopt.cli._compare", "Show packages side by side, on a page too."),
        "history": ("graphopt.cli._history", "Draw results of gates over time, and mark changes."),
        "prepack": (
            "graphopt.cli._prepack",
            "Copy a package to one that loads faster, twice as large.",
        ),
        "tune": ("graphopt.cli._tune", "Measure how sessions of a package are fastest on this machine."),
        "sweep": ("graphopt.cli._sweep", "Try recipes and options, on many machines, for the best of them."),
        "passes": ("graphopt.cli._passes", "List passes and recipes, show one, make and check your own."),
        "targets": ("graphopt.cli._targets", "List targets, show one, make your own, check this machine."),
        "models": (
            "graphopt.cli._models",
            "List embedded models and known families, make a family of your own.",
        ),
        "cache": ("graphopt.cli._cache", "List or remove what runs keep so that the next one continues."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Turns a trained model into a fast ONNX package that provably still behaves like it."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line with `arguments` (default: the process's) and exit."""
    code = run(arguments)
    gc.freeze()  # else Python looks through all that is left for garbage before it exits: seconds
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    warnings.simplefilter("ignore" if "GRAPHOPT_WARNINGS" not in os.environ else "default")
    given = list(sys.argv[1:] if arguments is None else arguments)
    with _terminable():
        try:
            _require_text(given)
            code = cli.main(given, prog_name="graphopt", standalone_mode=False)
            return code if isinstance(code, int) else 0
        except click.exceptions.Exit as end:
            return end.exit_code
        except click.UsageError as error:
            _keep_nearest(error)
            error.show()
            return 2
        except click.ClickException as error:
            return _failed(error.format_message(), None, 2)
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            return INTERRUPTED
        except GraphoptError as error:
            return _failed(error.message, error.hint, error.exit_code)
        except BrokenPipeError:
            return _reader_gone()
        except OSError as error:
            return _environment(error)
        except MemoryError:
            return _failed("out of memory", None, EnvironmentProblem.exit_code)
        except Exception as error:
            return _bug(error)


def _require_text(arguments: Sequence[str]) -> None:
    """Raise `UsageError` for bytes that are no text: onnxruntime opens no file of such a name."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"{argument!r} is not UTF-8") from None


def _keep_nearest(error: click.UsageError) -> None:
    """Suggest one name, the nearest, where click would list every similar one."""
    if isinstance(error, click.NoSuchOption | click.exceptions.NoSuchCommand) and error.possibilities:
        del error.possibilities[1:]


def _failed(message: str, hint: str | None, code: int) -> int:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {printable(message)}", err=True)
    if hint:
        click.echo(f"  {printable(hint)}", err=True)
    return code


def _environment(error: OSError) -> int:
    if error.errno in _FULL:
        return _failed(
            f"no space left: {error}", "Free some space and try again.", EnvironmentProblem.exit_code
        )
    if error.errno in _FORBIDDEN:
        return _failed(str(error), None, EnvironmentProblem.exit_code)
    if error.errno in _NO_SUCH_PLACE:
        return _failed(f"{error.strerror}: {str(error.filename)[:_SHOWN]}", None, BadInput.exit_code)
    if isinstance(error, FileNotFoundError) and not _is_somewhere():
        return _failed(
            "the current folder does not exist any more", "Go to one that does.", BadInput.exit_code
        )
    return _bug(error)


def _is_somewhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _bug(error: Exception) -> int:
    from graphopt.plugins import registry

    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    for name in (frame.f_globals.get("__name__", "") for frame in frames):
        if (origin := registry.plugin_of(name)) is not None:
            said = registry.failure(origin, error)
            return _failed(said, registry.PLUGIN_HINT, EnvironmentProblem.exit_code)
    traceback.print_exception(error)
    click.echo(
        "\nThis is a bug in graphopt. Please report it with the lines above, the command and the output of "
        "`graphopt targets doctor`.",
        err=True,
    )
    return BUG


def _reader_gone() -> int:
    """The reader of our output left: say nothing more, not even while Python shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that a terminated run cleans up like an interrupted one."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
