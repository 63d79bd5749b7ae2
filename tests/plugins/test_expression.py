"""A plugin's own lazy expression: from its pass through the check of its edit and the cache to a package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from graphopt import optimize
from graphopt.cache import _expressions
from graphopt.ir import Expr, LazyTensor, Region, lazy, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, Pass
from graphopt.plugins import registry

TEXT = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 4] x) => (float[batch, 4] y)
<float[4] w = {0.5, -1.5, 2.0, 1.0}, float low = {-1.0}, float high = {1.0}>
{
  clipped = Clip(w, low, high)
  y = Mul(x, clipped)
}
"""


@dataclass(frozen=True, eq=False)
class Clipped(Expr):
    """`source`, each element kept within `low` and `high`."""

    op: ClassVar[str] = "test.clipped"
    source: Expr
    low: float
    high: float

    def __post_init__(self) -> None:
        self.describe(self.source.shape, self.source.dtype)

    def read(self, region: Region | None = None) -> np.ndarray:
        return np.clip(self.source.read(region), self.low, self.high, dtype=self.dtype.numpy())


class ClipWeights(Pass):
    """Clip(w, low, high) of constants becomes a weight that is clipped as it is read."""

    name = "clip-weights"
    level = Level.IMPROVE
    contract = Contract.exact()
    above = 0.0

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in tuple(graph):
            w = node.inputs[0]
            if node.op_type != "Clip" or w is None or w.const_value is None:
                continue
            low, high = (scalar_of(bound) or 0.0 for bound in node.inputs[1:])
            tensor = LazyTensor(Clipped(lazy(w.const_value), low, high + self.above))
            new = ir.Value(name=f"{w.name}/clipped", shape=w.shape, type=w.type, const_value=tensor)
            yield Edit("clip", remove=[node], initializers=[new], replace={node.outputs[0]: new})


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = {**registry.passes(), "clip-weights": ClipWeights}
    monkeypatch.setattr(registry, "passes", lambda: found)
    onnx.save(parser.parse_model(TEXT), tmp_path / "net.onnx")
    (tmp_path / "recipe.toml").write_text('[[pass]]\nname = "clip-weights"\n')
    return tmp_path


def make(source: Path, name: str) -> tuple[list[bool], list[str], bytes]:
    """Which passes were cached, what was found of their edits, and the graph."""
    made = optimize(
        source / "net.onnx", source / name, recipe=str(source / "recipe.toml"), dims=["batch=1,3"]
    )
    passes = made.report().passes
    verdicts = [edit.verdict for step in passes for edit in step.edits]
    return [step.cached for step in passes], verdicts, (made.path / "model.onnx").read_bytes()


def test_from_a_pass_through_the_cache_to_a_package(source: Path) -> None:
    cached, verdicts, first = make(source, "first")
    again, _, second = make(source, "second")

    assert (cached, again) == ([False], [True])
    assert verdicts == ["proven"]
    assert first == second
    held = {w.name: numpy_helper.to_array(w) for w in onnx.ModelProto.FromString(first).graph.initializer}
    assert held["w/clipped"].tolist() == [0.5, -1.0, 1.0, 1.0]


def test_an_edit_with_other_content_is_found(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClipWeights, "above", 0.5)
    with pytest.raises(Exception, match="clip-weights"):
        make(source, "out")


def test_an_expression_that_nothing_brings_is_made_again(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, first = make(source, "first")
    known = _expressions.expression_type
    monkeypatch.setattr(
        _expressions, "expression_type", lambda op: None if op == "test.clipped" else known(op)
    )
    cached, _, second = make(source, "second")

    assert cached == [False]
    assert first == second
