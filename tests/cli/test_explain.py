"""optimize --explain: where a pass almost matched, and what was in the way."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from graphopt.cli._main import run

GELU = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[N,8] x) => (float[N,8] y)
<float root = {1.4142135}, float one = {1}, float half = {0.5}>
{
  a = Div(x, root)
  b = Erf(a)
  c = Add(b, one)
  d = Mul(x, c)
  y = Mul(d, half)
}
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("half = {0.5}", "half = {0.49}"), ["0 edits applied, 1 near miss", "the factor is 0.49, not 0.5"]),
        (("Add(b, one)", "Sub(b, one)"), ["1 near miss", "Erf, then Sub where Add is looked for"]),
        (("d = Mul(x, c)", "d = Div(c, x)"), ["1 near miss", "Erf -> Add, then Div where Mul is looked"]),
        (("Mul(d, half)", "Mul(d, x)"), ["1 near miss", "1 + erf(..) is not multiplied with one value"]),
        (("Div(x, root)", "Div(root, x)"), ["1 near miss", "erf is not of a number times 'x'"]),
        (("", ""), ["1 edit applied, 0 near misses"]),
    ],
)
def test_it_says_what_was_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], said: list[str]
) -> None:
    onnx.save(parser.parse_model(GELU.replace(*change)), tmp_path / "gelu.onnx")
    arguments = ["optimize", str(tmp_path / "gelu.onnx"), "-o", str(tmp_path / "out"), "--no-validate"]
    assert run([*arguments, "--recipe", "lossless", "--explain", "raise-gelu"]) == 0
    explained = capsys.readouterr().out.partition(" raise-gelu: ")[2]
    assert explained
    assert all(line in explained for line in said)


def test_nodes_without_names_are_told_apart(tmp_path: Path) -> None:
    twice = GELU.replace("y = Mul(d, half)", "e = Mul(d, half) f = Div(e, root) g = Erf(f) h = Add(g, one)")
    twice = twice.replace("h = Add(g, one)", "h = Add(g, one) i = Mul(e, h) y = Mul(i, half)")
    onnx.save(parser.parse_model(twice), tmp_path / "gelu.onnx")
    arguments = ["optimize", str(tmp_path / "gelu.onnx"), "-o", str(tmp_path / "out"), "--no-validate"]
    assert run([*arguments, "--recipe", "lossless"]) == 0
    made = onnx.load(tmp_path / "out" / "model.onnx")
    assert [node.op_type for node in made.graph.node] == ["Gelu", "Gelu"]
