"""Golden files: a graph as text, and what a pass makes of it or says against it.

A file is header lines (`pass: NAME`, and perhaps `options: JSON`, `config: JSON`, `task: NAME`), then

    --- before                      --- after         or    --- refuses
    the graph                       the graph               a part of the reason of a near miss

Numbers are checked at the sizes of `bind: B=2,S=3; B=1,S=5` with seeded inputs, or, for a graph whose inputs
have a meaning, in every case that `family: NAME` calls legal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt import registry
from graphopt.families import Case, InputDomain, Interface
from graphopt.ir import parse, text
from graphopt.pipeline import Budget, Context, Recipe, RunResult, Step, adapt_feeds, run_recipe
from graphopt.verify import Tolerance, compare, tolerance_of
from tests._cache import ROOT
from tests.passes._runs import outputs, session

Array = np.ndarray[Any, Any]
FOLDER = ROOT / "tests" / "golden"
LONGEST_SUM = 256
LONGEST = 8


@dataclass(frozen=True)
class Golden:
    """A golden file. `after` is None where the pass shall refuse, saying `reason`."""

    path: Path
    header: Mapping[str, str]
    before: str
    after: str | None
    reason: str = ""

    @classmethod
    def read(cls, path: Path) -> Golden:
        head, before, kind, expected = re.fullmatch(
            r"(.*?)^--- before\n(.*?)^--- (after|refuses)\n(.*)", path.read_text(), re.DOTALL | re.MULTILINE
        ).groups()  # type: ignore[union-attr]
        header = dict(line.split(": ", 1) for line in head.strip().splitlines())
        if kind == "after":
            return cls(path, header, before, expected.strip())
        return cls(path, header, before, None, expected.strip())

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    def model(self) -> ir.Model:
        return parse(self.before)

    def run(self) -> Ran:
        model = self.model()
        config = json.loads(self.header.get("config", "{}"))
        context = Context(
            model, domain=self._domain(config), config=config, task=self.header.get("task", "onnx")
        )
        step = Step(self.header["pass"], json.loads(self.header.get("options", "{}")))
        return Ran(model, run_recipe(model, Recipe("golden", "", Budget(), (step,)), context))

    def _domain(self, config: Mapping[str, Any]) -> InputDomain | None:
        if "family" not in self.header:
            return None
        family = registry.families()[self.header["family"]]()
        return family.input_domain(Interface.of(self.model()), config)

    def cases(self) -> Iterator[Case]:
        domain = self._domain(json.loads(self.header.get("config", "{}")))
        if domain is not None:
            yield from domain.cases(np.random.default_rng(0))
            return
        for binding in self.header["bind"].split(";"):
            sizes = {name.strip(): int(size) for name, size in (x.split("=") for x in binding.split(","))}
            yield Case(binding.strip(), _feeds(self.model(), sizes), {})

    def tolerance(self) -> Tolerance:
        return tolerance_of(registry.passes()[self.header["pass"]].contract, length=LONGEST_SUM)

    def differences(self, after: ir.Model, result: RunResult) -> dict[str, str]:
        """What differs between the graph before and `after`, by case and output; nothing, if all is well."""
        old, new = session(self.model()), session(after)
        found: dict[str, str] = {}
        for case in self.cases():
            expected = outputs(old, case.feeds)
            got = outputs(new, adapt_feeds(result.adapters, case.feeds))
            for name, array in expected.items():
                verdict = compare(*_specified(array, got[name], case.compare.get(name)), self.tolerance())
                if not verdict:
                    found[f"{name} in {case.name}"] = verdict.reason
        return found


@dataclass
class Ran:
    """A golden graph after its pass."""

    model: ir.Model
    result: RunResult

    @property
    def applied(self) -> int:
        return self.result.records[0].applied

    @cached_property
    def reasons(self) -> list[str]:
        return [miss.reason for miss in self.result.records[0].near_misses]

    @property
    def text(self) -> str:
        return text(self.model).strip()


@dataclass
class Seeded:
    """Arrays for graph inputs: normal floats, positions below 8, masks of ones, else zeros and ones."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def array(self, value: ir.Value, dims: list[int]) -> Array:
        assert value.dtype is not None
        dtype = value.dtype.numpy()
        if value.name == "attention_mask":
            return np.ones(dims, dtype)
        if value.name == "position_ids":
            return self.rng.integers(0, LONGEST, dims).astype(dtype)
        if np.issubdtype(dtype, np.integer) or dtype == np.bool_:
            return self.rng.integers(0, 2, dims).astype(dtype)
        return self.rng.standard_normal(dims).astype(dtype)


def _feeds(model: ir.Model, sizes: Mapping[str, int]) -> dict[str, Array]:
    seeded = Seeded()
    feeds = {}
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        assert value.name is not None
        assert value.shape is not None
        dims = [d if isinstance(d, int) else sizes[str(d.value)] for d in value.shape]
        feeds[value.name] = seeded.array(value, dims)
    return feeds


def _specified(expected: Array, got: Array, where: Array | None) -> tuple[Array, Array]:
    if where is None or expected.shape != got.shape:
        return expected, got
    zero = expected.dtype.type(0)
    return np.where(where, expected, zero), np.where(where, got, zero)


def goldens() -> list[Golden]:
    return [Golden.read(path) for path in sorted(FOLDER.glob("*/*.txt"))]


def rewrite(path: Path) -> str:
    """Put into a file what its pass does now; a line about it. For the author to read before committing."""
    golden = Golden.read(path)
    ran = golden.run()
    if golden.after is None:
        return f"{golden.name}: applied {ran.applied}, says {ran.reasons}"
    body = path.read_text().split("--- after\n")[0]
    path.write_text(f"{body}--- after\n{ran.text}\n")
    return f"{golden.name}: applied {ran.applied}, {golden.differences(ran.model, ran.result) or 'equal'}"
