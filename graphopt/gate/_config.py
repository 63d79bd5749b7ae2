"""Where gates are written: graphopt.toml, pyproject.toml, the command line, and else the recipe's budget."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from graphopt.errors import BadInput
from graphopt.gate._bounds import Gate, contradictions, parse_bound, parse_gate, seconds
from graphopt.io import nearest, read_toml
from graphopt.metrics import METRICS

__all__ = ["CONFIG", "GateSettings", "Gates", "read_gates"]

CONFIG = "graphopt.toml"
PYPROJECT = "pyproject.toml"
OPTIONS = "options"
"""The one key of `[gates]` that is no metric."""


class GateSettings(BaseModel):
    """`[gates.options]`: what is measured on, and how a verdict is reached.

    `data` (text, .jsonl, a folder or .npz), `calibration` and `tasks` (task files of lm-eval's) are relative
    to the file that names them.
    `tokens` is how much text at most. Speed is measured with prompts of `prompt_tokens`, `new_tokens` after
    each, and batches of `batch`, for at most `max_time` seconds (a number, or "2min").
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    data: Path | None = None
    calibration: Path | None = None
    inputs: Path | None = None
    tasks: Path | None = None
    tokens: int = Field(default=16384, ge=2)
    prompt_tokens: int = Field(default=256, ge=1)
    new_tokens: int = Field(default=64, ge=1)
    batch: int = Field(default=8, ge=1)
    max_time: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    threads: int | None = Field(default=None, ge=1, le=1024)
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    correction: Literal["holm", "benjamini-hochberg"] = "holm"
    inconclusive: Literal["pass", "fail", "report"] = "report"

    @field_validator("max_time", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        return seconds(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Gates:
    """What a package is held to. `where` is the file that says so, if one does."""

    gates: tuple[Gate, ...] = ()
    settings: GateSettings = field(default_factory=GateSettings)
    where: Path | None = None


def read_gates(config: Path | None, given: Sequence[str], folder: Path, **settings: Any) -> Gates:
    """Gates of `config` (default: graphopt.toml, else pyproject.toml, of `folder`) and those `given` as text.

    A metric that is given is held to what was given alone. `settings` that are not None take the place of
    the file's. Raises `BadInput` with the nearest name for what is unknown, and for gates that contradict
    each other.
    """
    written = _read(config) if config is not None else _found(folder)
    if written is None:
        raise BadInput(f"{config} has no [{_header(config or folder)}]")
    typed = [parse_gate(text) for text in given]
    named = {gate.metric for gate in typed}
    gates = (*(gate for gate in written.gates if gate.metric not in named), *typed)
    for a, b in contradictions(gates):
        raise BadInput(f"no package can pass {a.text} ({a.where}) and {b.text} ({b.where})")
    changed = {name: value for name, value in settings.items() if value is not None}
    return Gates(gates, written.settings.model_copy(update=changed), written.where)


def _found(folder: Path) -> Gates:
    """Those of the first file that has any: graphopt.toml may be there for plugins alone."""
    files = (folder / name for name in (CONFIG, PYPROJECT) if (folder / name).is_file())
    return next((gates for file in files if (gates := _read(file)) is not None), Gates())


def _header(path: Path) -> str:
    return "tool.graphopt.gates" if path.name == PYPROJECT else "gates"


def _read(path: Path) -> Gates | None:
    """The gates in the file at `path`; None where it has no table of them."""
    try:
        table: Any = read_toml(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    header = _header(path)
    for key in header.split("."):
        table = table.get(key) if isinstance(table, Mapping) else None
    if table is None:
        return None
    if not isinstance(table, Mapping):
        raise BadInput(f"{path}: {header} is not a table")
    lines = path.read_text(encoding="utf-8").splitlines()
    gates = [
        parse_bound(metric, bound, f"{_shown(path)}:{_line(lines, header, metric)}")
        for metric, value in table.items()
        if metric != OPTIONS
        for bound in _bounds(path, metric, value)
    ]
    return Gates(tuple(gates), _settings(path, table.get(OPTIONS, {})), path)


def _shown(path: Path) -> str:
    """`path` from here, as annotations of a repository want it; its name, if it is elsewhere."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name


def _bounds(path: Path, metric: str, value: object) -> list[str]:
    bounds = value if isinstance(value, list) else [value]
    if metric in METRICS and not all(isinstance(bound, str) for bound in bounds):
        raise BadInput(
            f"{path}: {metric} = {value!r} has no operator", hint=f'Write {metric} = "<= {value}".'
        )
    return [str(bound) for bound in bounds]


def _line(lines: Sequence[str], header: str, key: str) -> int:
    """The number of the line, from 1, where `key` of the table `header` stands, else where that begins."""
    inside, start = False, 1
    for number, line in enumerate(lines, 1):
        if table := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            inside = table[1].replace(" ", "").replace('"', "") == header
            start = number if inside else start
        elif inside and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
            return number
    return start


def _settings(path: Path, table: Mapping[str, Any]) -> GateSettings:
    known = GateSettings.model_fields
    for name in table:
        if name not in known:
            near = nearest(name, known)
            raise BadInput(
                f"{path}: there is no option {name!r} of gates",
                hint=f"Did you mean {near!r}?" if near else f"There are {', '.join(known)}.",
            )
    try:
        settings = GateSettings.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: gates.options.{where}: {first['msg']}") from error
    files = {
        name: path.parent / value
        for name in ("data", "calibration", "inputs", "tasks")
        if (value := getattr(settings, name)) is not None
    }
    return settings.model_copy(update=files)
