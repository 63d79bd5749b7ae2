"""Where things are printed: results on stdout, progress on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from graphopt.cli._printable import printable

__all__ = [
    "Say",
    "console",
    "error_console",
    "in_a_folder",
    "json_option",
    "quiet_option",
    "working",
    "write_json",
]

Say = Callable[[str], None]


def _writable(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value not in (None, "-") and not Path(value).absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {value} does not exist")
    return value


def in_a_folder(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    """`BadParameter` where the folder of a file to write is not there: said before anything is done."""
    if value is not None and not value.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {value} does not exist")
    return value


json_option = click.option(
    "--json",
    "json_file",
    metavar="FILE",
    callback=_writable,
    help="Also write the result as JSON; - prints only that.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress and no summary, only errors.")


class _Plain(Console):
    """A console on which names out of files are only text: no markup, and nothing a terminal would obey."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """The reader left: `graphopt.cli.main` says with which exit code, where rich would say 1."""
        raise BrokenPipeError

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def console() -> Console:
    """The console for results. Not coloured where stdout is not a terminal; then as wide as a line needs."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: whoever started us closed it
    return _Plain(width=None if is_terminal else 100)


def error_console() -> Console:
    """The console for what goes on, on stderr."""
    return _Plain(stderr=True)


@contextlib.contextmanager
def working(quiet: bool) -> Iterator[Say]:
    """What is being done, shown on stderr: a spinner on a terminal, else a line for each phase.

    The yielded function takes `phase` or `phase: detail`; details are shown only on a terminal.
    """
    if quiet:
        yield lambda text: None
        return
    errors = error_console()
    if not errors.is_terminal:
        said: list[str] = []

        def line(text: str) -> None:
            phase = text.partition(":")[0]
            if phase not in said:
                said.append(phase)
                click.echo(f"{printable(phase)} …", err=True)

        yield line
        return
    with errors.status("starting …", spinner="dots") as status:
        yield lambda text: status.update(Text(f"{text} …"))


def write_json(file: str | None, data: Any) -> None:
    """Write `data` to `file`, or to stdout where that is `-`; nothing where it is None.

    Numbers that are not finite become strings: JSON has no other way.
    """
    if file is None:
        return
    text = json.dumps(_finite(data), indent=2, allow_nan=False) + "\n"
    if file == "-":
        click.echo(text, nl=False)
    else:
        Path(file).write_text(text, encoding="utf-8")


def _finite(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return "NaN" if math.isnan(data) else "Infinity" if data > 0 else "-Infinity"
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data
