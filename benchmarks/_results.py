"""What benchmarks found, in files that documents are rendered from: `benchmarks/results/NAME.json`.

A table is what was measured together; only its rows are compared with each other. Measuring some of its rows
again replaces these rows and no others, because whoever has an hour measures part of what took ten.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from graphopt.metrics import Estimate

RESULTS = Path(__file__).parent / "results"
SCHEMA = 1

Cell = bool | int | float | str | Estimate | None
Row = dict[str, Cell]

_DIGITS = 6
"""Significant digits that are kept: more than any measurement of a time has."""
_DEEPEST = 3
"""How deep a file is one value a line: results, their tables, a table, its rows."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Table(_Strict):
    """Rows that were measured together, and how.

    `cell` tells tables of one name apart (shape, batch, ...), `key` names the column that tells rows apart,
    `base` the rows that others are compared with: they stay for as long as one of the others does.
    """

    name: str
    cell: dict[str, bool | int | float | str] = Field(default_factory=dict)
    date: str
    """ISO, the last day where it took several."""
    machine: str
    versions: dict[str, str]
    command: str
    rounds: int | None = None
    """How often each row was measured; None for what is counted, and does not vary."""
    interval: str | None = None
    """What the brackets hold, and of what."""
    key: str
    base: tuple[str, ...] = ()
    rows: list[Row]
    notes: list[str] = Field(default_factory=list)
    origin: str | None = None
    """Where the figures come from, if not from the command itself."""

    @field_validator("rows")
    @classmethod
    def _rounded(cls, rows: list[Row]) -> list[Row]:
        return [{name: _round(cell) for name, cell in row.items()} for row in rows]

    def row(self, key: str) -> Row:
        return next(row for row in self.rows if row[self.key] == key)

    def without(self, keys: set[Cell]) -> Table | None:
        """The table less these rows; None where nothing but its base would be left."""
        kept = [row for row in self.rows if row[self.key] in self.base or row[self.key] not in keys]
        if all(row[self.key] in {*self.base, *keys} for row in kept):
            return None
        return self.model_copy(update={"rows": kept})


class Results(_Strict):
    """A file: all that one benchmark has found."""

    schema_version: int = SCHEMA
    name: str
    tables: list[Table]
    notes: list[str] = Field(default_factory=list)

    def find(self, name: str, row: str | None = None, **cell: Any) -> Table:
        """The table of that name and cell, or of a cell that has this and more, and that has `row`."""
        for table in self.tables:
            fits = table.name == name and cell.items() <= table.cell.items()
            if fits and (row is None or any(one[table.key] == row for one in table.rows)):
                return table
        raise KeyError(f"{self.name}: no table {name!r} of {cell} with {row!r}")

    def text(self) -> str:
        return "".join(_lines(self.model_dump(mode="json", exclude_none=True), 0)) + "\n"


def merged(old: Results | None, new: Results) -> Results:
    """`new`, and what of `old` it has not measured again."""
    if old is None:
        return new
    kept = []
    for table in old.tables:
        again = {
            row[other.key]
            for other in new.tables
            if (other.name, other.cell) == (table.name, table.cell)
            for row in other.rows
        }
        if left := table.without(again) if again else table:
            kept.append(left)
    tables = sorted([*kept, *new.tables], key=lambda t: (t.name, json.dumps(t.cell, sort_keys=True)))
    notes = list(dict.fromkeys([*old.notes, *new.notes]))
    return new.model_copy(update={"tables": tables, "notes": notes})


def load(path: Path) -> Results:
    return Results.model_validate_json(path.read_text(encoding="utf-8"))


def record(path: Path, tables: Iterable[Table], *, notes: Sequence[str] = ()) -> Results:
    """Merge tables into the file at `path`, which is named for the benchmark."""
    new = Results(name=path.stem, tables=list(tables), notes=list(notes))
    whole = merged(load(path) if path.is_file() else None, new)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(whole.text(), encoding="utf-8")
    return whole


def option(parser: argparse.ArgumentParser, name: str) -> None:
    """`--json`: the file that results are merged into."""
    path = RESULTS / f"{name}.json"
    parser.add_argument("--json", type=Path, default=path, help="results are merged into this file")


def command() -> str:
    """The command line of this process, as given in the repository, less where results go."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    option(parser, "")
    _, words = parser.parse_known_args(sys.argv[1:])
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def versions(*distributions: str) -> dict[str, str]:
    """Of Python and of these distributions here."""
    found = {name: importlib.metadata.version(name) for name in sorted(distributions)}
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}


def _round(cell: Cell) -> Cell:
    match cell:
        case float():
            return float(f"{cell:.{_DIGITS}g}")
        case Estimate():
            return Estimate(*(float(f"{one:.{_DIGITS}g}") for one in (cell.value, cell.low, cell.high)))
    return cell


def _lines(value: Any, depth: int) -> Iterator[str]:
    """JSON with one value a line, but a row and what else says several things in one."""
    named = isinstance(value, Mapping)
    if not value or not isinstance(value, Mapping | list) or depth >= _DEEPEST + (not named):
        yield json.dumps(value, ensure_ascii=False)
        return
    items = value.items() if named else ((None, one) for one in value)
    yield "{" if named else "["
    for number, (key, inner) in enumerate(items):
        head = f"{json.dumps(key)}: " if named else ""
        yield f"{',' if number else ''}\n{' ' * (depth + 1)}{head}"
        yield from _lines(inner, depth + 1)
    yield f"\n{' ' * depth}" + ("}" if named else "]")
