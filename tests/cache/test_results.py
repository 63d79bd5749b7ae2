"""What a pass found out before a run was interrupted is not found out again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from graphopt import optimize
from graphopt.pipeline import Context, Contract, Edits, Level, Pass
from graphopt.plugins import registry

TEXT = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 4] x) => (float[batch, 4] y) { y = Relu(x) }
"""


class Interrupted(BaseException):
    """As Ctrl-C is."""


class Slow(Pass):
    """Decides something, computes one thing after the other, and is interrupted after some."""

    name = "slow"
    level = Level.IMPROVE
    contract = Contract.exact()
    breaks_after: ClassVar[int] = 99
    done: ClassVar[list[str]] = []
    seen: ClassVar[dict[str, Any]] = {}

    @dataclass(frozen=True)
    class Options:
        """speed counts; budget does not."""

        speed: int = 1
        budget: int = 1

    options: Options

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        said: list[str] = []
        context = replace(context, progress=said.append)
        context.decide("which", lambda: self.compute("decision"))
        for name in context.watch(["a", "b", "c"], "working"):
            self.seen[name] = context.remember(name, lambda name=name: {"x": np.full(3, self.compute(name))})
        self.seen["any"] = context.remember(
            ["any", self.options.speed], lambda: {"x": np.asarray(self.compute("any"))}, for_any_options=True
        )
        assert said == ["working 1 of 3", "working 2 of 3", "working 3 of 3"]
        return
        yield

    def compute(self, name: str) -> int:
        if len(self.done) == self.breaks_after:
            raise Interrupted
        self.done.append(name)
        return len(self.done)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = {**registry.passes(), "slow": Slow}
    monkeypatch.setattr(registry, "passes", lambda: found)
    monkeypatch.setattr(Slow, "done", [])
    monkeypatch.setattr(Slow, "seen", {})
    onnx.save(parser.parse_model(TEXT), tmp_path / "net.onnx")

    def made(settings: str = "", **options: Any) -> list[str]:
        """What was computed."""
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(f'[[pass]]\nname = "slow"\n{settings}\n')
        Slow.done.clear()
        optimize(
            tmp_path / "net.onnx",
            tmp_path / "out",
            recipe=str(recipe),
            force=True,
            validate=False,
            **options,
        )
        return list(Slow.done)

    return made


def test_an_interrupted_step_loses_what_it_was_at(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "breaks_after", 3)
    with pytest.raises(Interrupted):
        make()
    assert Slow.done == ["decision", "a", "b"]
    before = dict(Slow.seen)
    monkeypatch.setattr(Slow, "breaks_after", 99)

    assert make() == ["c", "any"]
    assert np.array_equal(Slow.seen["a"]["x"], before["a"]["x"])
    assert Slow.seen["b"]["x"].tolist() == [3, 3, 3]


def test_options_count_unless_the_pass_says_which(make: Any) -> None:
    everything = ["decision", "a", "b", "c", "any"]
    assert make() == everything
    assert make("budget = 2") == everything[:-1]
    assert make("speed = 2") == everything


def test_without_a_cache_nothing_is_remembered(make: Any, own_cache: Path) -> None:
    assert len(make(cache=False)) == 5
    assert len(make(cache=False)) == 5
    assert list(own_cache.iterdir()) == []
