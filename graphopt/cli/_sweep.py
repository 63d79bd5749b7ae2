"""graphopt sweep."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli._console import console, error_console, json_option, quiet_option, write_json
from graphopt.cli._plugins import no_plugins_option
from graphopt.cli._printable import printable
from graphopt.errors import BadInput, CheckFailed

if TYPE_CHECKING:
    from rich.table import Table

    from graphopt.sweep import Engine, Row, Spec, Sweep

__all__ = ["command", "ray_option"]

_SHOWN = 12
"""Trials in the live table, the last ones."""

ray_option = click.option(
    "--ray",
    default="local",
    show_default=True,
    metavar="local|auto|HOST:PORT",
    help="Where trials run: a Ray of our own on this machine, the cluster that RAY_ADDRESS names or that this"
    " machine belongs to, or one by its address.",
)


@click.command("sweep")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False), metavar="SPEC.toml")
@ray_option
@click.option(
    "--storage",
    metavar="URL|FILE",
    help="Where Optuna keeps the trials, so that others can look at them: sqlite:///sweep.db, another"
    " database, or the file of a journal. [default: in memory]",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write sweep.json there, and the recipes of the best trials.",
)
@json_option
@quiet_option
@no_plugins_option
def command(
    spec: Path, ray: str, storage: str | None, out: Path | None, json_file: str | None, quiet: bool
) -> None:
    """Make and measure packages as SPEC.toml says, and find the best.

    SPEC.toml names sources, recipes, ranges of options, what to measure, budgets and objectives. What was
    done before is not done again: the same command goes on where it was interrupted. Exit code 1: no package
    keeps the budget.
    """
    from graphopt.sweep import Spec, sweep

    read = Spec.read(spec)
    if out is not None:
        _made(out)  # what cannot be written is said before hours of trials
    with _showing(quiet) as watch:
        found = sweep(read, ray=ray, storage=storage, watch=watch)
    data = found.to_json()
    if out is not None:
        _write(out, data)
    write_json(json_file, data)
    if not quiet and json_file != "-":
        _print(found, out)
    if not found.best:
        done = [row for row in found.rows if row.error is None]
        if not done:
            raise CheckFailed(f"none of {len(found.rows)} trials gave a package: {found.rows[0].error}")
        raise CheckFailed(
            f"none of {len(found.rows)} trials keeps the budget", hint="Ask for less, or try more."
        )


def _made(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out} cannot be a folder: {error.strerror}") from error


def _write(out: Path, data: dict[str, Any]) -> None:
    write_json(str(out / "sweep.json"), data)
    for number, recipe in data["recipes"].items():
        (out / f"trial-{number}.toml").write_text(recipe, encoding="utf-8")
    if data["best"]:
        (out / "best.toml").write_text(data["recipes"][str(data["best"][0])], encoding="utf-8")


@contextlib.contextmanager
def _showing(quiet: bool) -> Iterator[Callable[[Sweep, Engine], None]]:
    """What shows a sweep on stderr: a table that lives on a terminal, else a line for each trial."""
    if quiet:
        yield lambda *_: None
        return
    if not sys.stderr.isatty():
        said: set[int] = set()

        def lines(found: Sweep, engine: Engine) -> None:
            for row in found.rows:
                if row.done and row.number not in said:
                    said.add(row.number)
                    click.echo(printable(f"trial {row.number}: {_in_words(found.spec, row)}"), err=True)

        yield lines
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=error_console(), refresh_per_second=4, transient=True) as live:

        def table(found: Sweep, engine: Engine) -> None:
            done = sum(row.done for row in found.rows)
            counts = {"running": engine.running, "waiting": engine.waiting, "known": engine.known}
            counts |= {"failed": engine.failed, "lost": engine.lost}
            tasks = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            line = f" {done} of {found.size} trials; tasks: {tasks or 'none yet'}; nodes: {engine.nodes}"
            live.update(Group(_table(found, found.rows[-_SHOWN:]), Text(line, style="dim")))

        yield table


def _in_words(spec: Spec, row: Row) -> str:
    if row.error is not None:
        return row.error.partition("\n")[0]
    return ", ".join(f"{metric} {row.metrics[metric].value:.4g}" for metric in spec.objective)


def _print(found: Sweep, out: Path | None) -> None:
    from rich.text import Text

    show = console()
    show.print()
    show.print(_table(found, found.rows))
    show.print()
    what = "best" if len(found.spec.objective) == 1 else "Pareto list"
    for number in found.best:
        row = next(row for row in found.rows if row.number == number)
        values = " ".join(f"{key}={value}" for key, value in row.values.items())
        show.print(Text.assemble((f" {what}: trial {number}", "bold green"), f"  {values}"))
    if found.best and out is not None:
        source = next(row for row in found.rows if row.number == found.best[0]).values["source"]
        show.print(Text(f" graphopt optimize {source} --recipe {out / 'best.toml'}", style="dim"))


def _table(found: Sweep, rows: list[Row]) -> Table:
    from rich import box
    from rich.table import Table

    from graphopt.metrics import METRICS

    metrics = found.metrics
    keys = [key for key in ("source", "recipe") if len(getattr(found.spec, key)) > 1]
    keys += list(found.spec.options)
    best = set(found.best)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(" trial", justify="right", no_wrap=True)
    for key in keys:
        head = _head(key, keys)
        table.add_column(head, overflow="fold", min_width=len(head))
    for metric in metrics:
        unit = METRICS[metric].unit
        head = metric + (f"\n({unit})" if unit else "")
        table.add_column(head, justify="right", overflow="fold", min_width=len(metric))
    table.add_column("", overflow="fold")
    for row in rows:
        cells = [str(row.values.get(key, "")) for key in keys]
        cells += [f"{row.metrics[m].value:.4g}" if m in row.metrics else "" for m in metrics]
        style = "bold green" if row.number in best else None if row.feasible or not row.done else "dim"
        table.add_row(f" {row.number}", *cells, _remark(row), style=style)
    return table


def _head(key: str, keys: list[str]) -> str:
    """The option without its pass where no other pass has one of that name: a line has no room for both."""
    option = key.rpartition(".")[2]
    return option if sum(other.rpartition(".")[2] == option for other in keys) == 1 else key


def _remark(row: Row) -> str:
    if not row.done:
        return "…"
    if row.error is not None:
        return row.error.partition("\n")[0]
    over = [f"{metric} {100 * share:+.0f} %" for metric, share in row.over.items() if share > 0]
    return f"over: {', '.join(over)}" if over else ""
