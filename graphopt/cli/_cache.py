"""graphopt cache list | clear."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sized
from typing import TYPE_CHECKING

import click

from graphopt.cli._console import console, json_option, write_json
from graphopt.errors import EnvironmentProblem

if TYPE_CHECKING:
    from graphopt.cache import Store

__all__ = ["command"]


@click.group("cache")
def command() -> None:
    """List or remove what runs keep so that the next one continues."""


@command.command("list")
@json_option
def list_(json_file: str | None) -> None:
    """List the entries of the cache, the one used last first."""
    from rich import box
    from rich.table import Table

    from graphopt.report import bytes_text

    with _store() as store:
        entries = store.entries()
    now, total = time.time(), sum(entry.bytes for entry in entries)
    write_json(
        json_file,
        {
            "folder": str(store.folder),
            "size": store.size,
            "bytes": total,
            "entries": [vars(entry) | {"age": max(0.0, now - entry.used)} for entry in entries],
        },
    )
    if json_file == "-":
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("source", style="cyan", overflow="fold")
    table.add_column("after", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("used", justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(entry.source, entry.step, bytes_text(entry.bytes), _ago(now - entry.used))
    if entries:
        console().print(table)
    console().print(
        f"{_counted(entries)}, {bytes_text(total)} of at most {bytes_text(store.size)}, in {store.folder}",
        soft_wrap=True,
    )


@command.command("clear")
@json_option
def clear(json_file: str | None) -> None:
    """Remove every entry of the cache."""
    from graphopt.report import bytes_text

    with _store() as store:
        removed, freed = store.clear()
    write_json(json_file, {"folder": str(store.folder), "removed": removed, "bytes": freed})
    if json_file != "-":
        console().print(
            f"{_counted(range(removed))} removed from {store.folder}, {bytes_text(freed)}", soft_wrap=True
        )


def _counted(entries: Sized) -> str:
    return "1 entry" if len(entries) == 1 else f"{len(entries)} entries"


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


@contextlib.contextmanager
def _store() -> Iterator[Store]:
    from graphopt.cache import Store, cache_size
    from graphopt.io import cache_folder

    store = Store(cache_folder(), cache_size())
    try:
        yield store
    except OSError as error:
        raise EnvironmentProblem(f"the cache at {store.folder} cannot be used: {error}") from error
