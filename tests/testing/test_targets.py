"""The kit finds targets that break each promise, and leaves the built-in one alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from graphopt import BadInput
from graphopt.ir import save_model
from graphopt.plugins import registry
from graphopt.recipes import Recipe, Step
from graphopt.targets import CompileReport, Target
from graphopt.testing import check_target

CPU: Any = registry.targets()["cpu"]
COUNT = itertools.count()


class LowersWithNothing(CPU):
    name = "lowers-with-nothing"

    def lowering(self, recipe: Recipe) -> tuple[Step, ...]:
        return (Step("no-such-pass"),)


class BadOptions(CPU):
    name = "bad-options"

    def lowering(self, recipe: Recipe) -> tuple[Step, ...]:
        return (Step("cse", {"no_such_option": 1}),)


class ForgetsItself(CPU):
    name = "forgets-itself"

    def fingerprint(self) -> dict[str, str]:
        return {"count": str(next(COUNT))}


class Numbers(CPU):
    name = "numbers"

    def fingerprint(self) -> Any:
        return {"cores": 2}


class NamesWhatIsNotThere(CPU):
    name = "names-what-is-not-there"
    libraries = frozenset({"onnxruntime", "no-such-distribution"})


class TakesAll(CPU):
    name = "takes-all"

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        save_model(model, path)
        return CompileReport(len(model.graph), path.stat().st_size, 0.1)


class TakesNone(CPU):
    name = "takes-none"

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        raise BadInput("not on this machine")


class Approximates(CPU):
    name = "approximates"

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        for node in model.graph:
            if node.op_type == "Sigmoid":
                node.op_type = "HardSigmoid"
        report: CompileReport = super().compile(model, path)
        return report


FAULTS: dict[type[Target], Sequence[str]] = {
    LowersWithNothing: ["lowering"],
    BadOptions: ["lowering"],
    ForgetsItself: ["fingerprint"],
    Numbers: ["fingerprint"],
    NamesWhatIsNotThere: ["libraries"],
    TakesAll: ["refusal"],
    TakesNone: ["compile", "refusal"],
    Approximates: ["results"],
}


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.name)
def test_a_broken_promise_is_found(cls: type[Target], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "targets", lambda: {cls.name: cls})

    assert sorted({problem.partition(":")[0] for problem in check_target(cls)}) == FAULTS[cls]


def test_the_built_in_target_conforms() -> None:
    assert check_target(CPU) == []


def test_a_target_that_is_not_installed_is_bad_input() -> None:
    with pytest.raises(BadInput, match="not the installed one"):
        check_target(Numbers)
