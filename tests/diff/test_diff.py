"""What changed between two graphs is found, whatever nodes and values are called."""

from __future__ import annotations

import json
from pathlib import Path

import onnx_ir as ir
import pytest

from graphopt.cli._main import run
from graphopt.diff import Diff, diff
from graphopt.ir import infer_types, load_model, parse, save_model

HEAD = '<ir_version: 10, opset_import: ["" : 23]>\n'
NET = """net (float[N, 4] x, bool c) => (float[N, 4] y)
<float[4] w = {1, 2, 3, 4}, float[4] v = {4, 3, 2, 1}>
{
  a = Mul(x, w)
  b = Sigmoid(a)
  d = Mul(a, b)
  e = Identity(d)
  f = Sub(e, v)
  y = If(c) <
    then_branch = t () => (float[N, 4] p) { p = Neg(f) },
    else_branch = s () => (float[N, 4] q) { q = Abs(f) }>
}
"""
LAYER = "  a{n} = Mul(x{n}, w)\n  b{n} = Sigmoid(a{n})\n  x{m} = Add(a{n}, b{n})\n"


def model(source: str = NET) -> ir.Model:
    made = parse(HEAD + source)
    infer_types(made)
    return made


def operators(found: Diff) -> list[tuple[list[str], list[str]]]:
    return [([p.operator for p in r.before], [p.operator for p in r.after]) for r in found.regions]


def test_nothing_differs_where_only_names_and_storage_do(tmp_path: Path) -> None:
    renamed = model()
    for node in renamed.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.name = f"other_{value.name}"
    save_model(renamed, tmp_path / "renamed.onnx")
    found = diff(model(), load_model(tmp_path / "renamed.onnx"))

    assert not found
    assert found.same == found.nodes_before == found.nodes_after == 6


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("e = Identity(d)\n  f = Sub(e, v)", "f = Sub(d, v)", (["Identity", "Sub"], ["Sub"])),
        ("Sub(e, v)", "Sub(v, e)", (["Sub"], ["Sub"])),
        ("w = {1, 2, 3, 4}", "w = {1, 2, 3, 5}", (["Mul"], ["Mul"])),
        ("b = Sigmoid(a)\n  d = Mul(a, b)", "d = Gelu(a)", (["Sigmoid", "Mul"], ["Gelu"])),
        ("p = Neg(f)", "p = Abs(f)", (["If"], ["If"])),
    ],
)
def test_a_change_is_one_region(old: str, new: str, expected: tuple[list[str], list[str]]) -> None:
    assert old in NET
    found = diff(model(), model(NET.replace(old, new)))

    assert operators(found) == [expected]
    assert found.same == found.nodes_before - len(expected[0])


@pytest.mark.parametrize("swap", [False, True])
def test_nodes_need_no_names(swap: bool) -> None:
    pair = [model(), model(NET.replace("b = Sigmoid(a)\n  d = Mul(a, b)", "d = Gelu(a)"))]
    for one in pair:
        for node in one.graph:
            node.name = None
    (region,) = diff(*reversed(pair) if swap else pair).regions

    assert [place.name for place in region.before] == (["d"] if swap else ["b", "d"])


def test_layers_are_regions_of_one_kind() -> None:
    def net(layer: str) -> str:
        body = "".join(layer.format(n=n, m=n + 1) for n in range(3))
        return f"net (float[4] x0) => (float[4] x3)\n<float[4] w = {{1, 2, 3, 4}}>\n{{\n{body}}}"

    other = "  c{n} = Mul(x{n}, w)\n  x{m} = Tanh(c{n})\n"
    found = diff(model(net(LAYER)), model(net(other)))

    assert len(found.regions) == 3
    assert len({region.kind for region in found.regions}) == 1
    assert [region.outputs for region in found.regions] == [("x1",), ("x2",), ("x3",)]


def test_inputs_outputs_and_opsets_are_compared() -> None:
    other = model(NET.replace("float[N, 4] x, bool c", "float[N, 4] x, bool c, int64 z"))
    other.graph.opset_imports["com.microsoft"] = 1

    assert diff(model(), other).interface == (
        "input z: none → int64[]",
        "opset com.microsoft: none → 1",
    )


def test_the_passes_that_wrote_a_region_are_named() -> None:
    other = model(NET.replace("Sub(e, v)", "Sub(v, e)"))
    next(node for node in other.graph if node.op_type == "Sub").metadata_props["graphopt.provenance"] = (
        "swap#2:3 <- sub"
    )

    assert [region.passes for region in diff(model(), other).regions] == [("swap#2",)]


def test_the_command_shows_regions_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, source in (("a", NET), ("b", NET.replace("Identity(d)", "Neg(d)"))):
        save_model(model(source), tmp_path / f"{name}.onnx")
    pair = [str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    code = run(["diff", *pair])
    shown = capsys.readouterr().out
    run(["diff", *pair, "--json", "-"])
    (written,) = json.loads(capsys.readouterr().out).values()

    assert code == 0
    assert "5 of them the same" in shown
    assert any(line.split() == ["1", "Identity", "Neg", "e"] for line in shown.splitlines())
    assert written["regions"][0]["after"][0]["operator"] == "Neg"
    assert run(["diff", pair[0], pair[0]]) == 0
    assert "Nothing differs." in capsys.readouterr().out
    assert run(["diff", pair[0], str(tmp_path / "none.onnx")]) == 2
