"""Where nodes run: from records as a runtime gives them, and from the one that is here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import parser

from graphopt import BadInput, Package, optimize
from graphopt.cli._main import run
from graphopt.evaluate import AssignedNode, Coverage, coverage, coverage_of
from graphopt.evaluate._profile import Traced
from graphopt.ir import load_model, parse
from graphopt.package import RunnablePackage
from graphopt.plugins import registry
from graphopt.recipes import Recipe, Step
from graphopt.report import CoverageReport, coverage_text
from graphopt.runtime import CPU, open_session
from graphopt.targets import Capabilities, Target, Unsupported

NPU, AZURE = "NpuExecutionProvider", "AzureExecutionProvider"
NET = """
    <ir_version: 10, opset_import: ["" : 23]>
    net (float[2, 4] x, float[4, 4] w) => (float[2, 4] y)
    { a = MatMul(x, w)  b = Relu(a)  c = Erf(b)  d = Relu(c)  e = Erf(d)  y = Add(b, e) }
"""
"""Nodes are named after what they make: "a/MatMul"."""


class Table(Capabilities):
    """All operators but Erf, which runs elsewhere."""

    def supports(self, domain: str, op_type: str, version: int, dtypes: Mapping[str, str]) -> bool:
        return op_type != "Erf"

    def unsupported(self, model: Any) -> Sequence[Unsupported]:
        return ()

    def left_to_others(self, model: Any) -> Sequence[Unsupported]:
        reason = "no kernel for Erf in its table of 2026-11"
        return [Unsupported.of(node, reason) for node in model.graph if node.op_type == "Erf"]


class Npu(Target):
    """A target whose provider is not here, with a table that has no Erf."""

    name, provider = "npu", NPU

    def capabilities(self) -> Capabilities:
        return Table()

    def lowering(self, recipe: Recipe) -> tuple[Step, ...]:
        return ()

    def fingerprint(self) -> dict[str, str]:
        return {}


def recorded(*left: str) -> list[AssignedNode]:
    """The record of a runtime whose NPU took all nodes of `NET` but those."""
    nodes = [(str(node.name), node.op_type) for node in parse(NET).graph]
    return [AssignedNode(name, op, CPU if name in left else NPU) for name, op in nodes]


def traced(**microseconds: tuple[str, str, int]) -> Traced:
    """A trace of three rounds of one call: provider, operator and duration by the node's name."""
    events: list[dict[str, Any]] = []
    for n in range(3):
        at = 1000 * n
        events.append({"cat": "Session", "name": "model_run", "ts": at, "dur": 900})
        for name, (provider, operator, duration) in microseconds.items():
            args = {"provider": provider, "op_name": operator}
            events.append(
                {"cat": "Node", "name": f"{name}_kernel_time", "ts": at + 1, "dur": duration, "args": args}
            )
            at += duration + 1
    return Traced(events, 1)


def test_rows_reasons_and_crossings_of_a_record() -> None:
    found = coverage_of(parse(NET), Npu(), recorded("c/Erf", "d/Relu", "e/Erf"))

    assert [(r.provider, r.operator, r.count, r.share) for r in found.rows] == [
        (CPU, "Erf", 2, None),
        (CPU, "Relu", 1, None),
        (NPU, "Add", 1, None),
        (NPU, "MatMul", 1, None),
        (NPU, "Relu", 1, None),
    ]
    assert [(f.node, f.reason) for f in found.fallbacks] == [
        ("c/Erf", "no kernel for Erf in its table of 2026-11"),
        ("d/Relu", "the provider did not take it"),
        ("e/Erf", "no kernel for Erf in its table of 2026-11"),
    ]
    assert found.crossings == 2, "b to the processor and e back"
    assert found.nodes == 6
    assert (found.copies, found.fallback_share, found.copy_share) == (None, None, None)


def test_what_a_fallback_costs() -> None:
    trace = traced(
        piece_0=(NPU, "NPU_0", 30),
        to=(NPU, "MemcpyToHost", 10),
        erf=(CPU, "Erf", 40),
        back=(NPU, "MemcpyFromHost", 10),
        piece_1=(NPU, "NPU_1", 10),
    )
    found = coverage_of(parse(NET), Npu(), recorded("c/Erf"), trace)

    assert found.copies == 2
    assert found.fallback_share == pytest.approx(0.4)
    assert found.copy_share == pytest.approx(0.2)
    shares = {(row.provider, row.operator): (row.count, row.share) for row in found.rows}
    assert shares[CPU, "Erf"] == (1, pytest.approx(0.4))
    assert shares[NPU, "NPU_0"] == (0, pytest.approx(0.3)), (
        "what the provider compiled is no node of the graph"
    )
    assert shares[NPU, "Relu"] == (2, 0.0)
    assert sum(share or 0 for _, share in shares.values()) == pytest.approx(0.8), "and the rest are copies"


def test_nodes_without_names() -> None:
    """A package's file leaves out names that a reader makes up; onnxruntime's record has none for them."""
    model = parse(NET)
    nodes = [AssignedNode("", node.op_type, CPU if node.op_type == "Erf" else NPU) for node in model.graph]
    for node in model.graph:
        node.name = None
    found = coverage_of(model, Npu(), nodes)

    assert [(f.node, f.reason) for f in found.fallbacks] == 2 * [
        ("Erf", "no kernel for Erf in its table of 2026-11")
    ]
    assert found.crossings is None


def test_nothing_fell_back() -> None:
    found = coverage_of(parse(NET), Npu(), recorded())

    assert (found.fallbacks, found.crossings) == ((), 0)
    assert CoverageReport.of(found).sentence == f"6 of 6 nodes on {NPU}"


def test_of_a_package_on_the_cpu(tiny_coder_at: Callable[[str], Path]) -> None:
    found = coverage(RunnablePackage.load(tiny_coder_at("int4")))["model"]

    assert {row.provider for row in found.rows} == {CPU}
    assert found.fallbacks == ()
    assert found.copies == 0
    assert sum(row.share or 0 for row in found.rows) == pytest.approx(1)
    largest = max(found.rows, key=lambda row: row.share or 0)
    assert "MatMulNBits" in largest.operator
    counted = {row.operator: row.count for row in found.rows}
    model = load_model(tiny_coder_at("int4") / "model.onnx")
    assert counted["GroupQueryAttention"] == sum(n.op_type == "GroupQueryAttention" for n in model.graph)


class Elsewhere(Npu):
    """A target on a provider that every onnxruntime for Linux has, and that takes none of these nodes."""

    name, provider = "elsewhere", AZURE

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        return open_session(path, threads=threads, providers=(AZURE,))


class Silent(Elsewhere):
    """The same with sessions that are on the CPU provider alone."""

    name = "silent"

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        return open_session(path, threads=threads)


class Mute(Elsewhere):
    """The same with sessions that do not tell where nodes run."""

    name = "mute"

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        session = super().session(path, threads=threads)
        names = ("run", "get_inputs", "get_outputs", "get_overridable_initializers", "get_providers")
        return SimpleNamespace(**{name: getattr(session, name) for name in names})


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    if AZURE not in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has no {AZURE}")
    added = {cls.name: cls for cls in (Elsewhere, Silent, Mute)}
    targets = {**registry.targets(), **added}
    monkeypatch.setattr(registry, "targets", lambda: targets)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(NET), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.usefixtures("elsewhere")
def test_optimize_tells_where_nodes_run(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["optimize", str(net), "-o", str(out), "--target", "elsewhere", "--recipe", "lossless"]) == 0
    said = " ".join(capsys.readouterr().out.split())

    (found,) = Package.load(out).report().coverage.values()
    assert len(found.fallbacks) == sum(row.count for row in found.rows) > 3
    assert found.fallback_share == pytest.approx(1)
    assert f"where nodes run 0 of {len(found.fallbacks)} nodes on {AZURE}; the others take 100 % of" in said
    assert "2 Erf fell back: no kernel for Erf in its table of 2026-11" in said
    page = (out / "report.html").read_text()
    assert "Where nodes run" in page
    assert "no kernel for Erf in its table of 2026-11" in page


@pytest.mark.usefixtures("elsewhere")
def test_no_fallback_is_refused_by_name(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["optimize", str(net), "-o", str(tmp_path / "out"), "--no-cpu-fallback", "--recipe", "lossless"]

    assert run([*asked, "--target", "elsewhere"]) == 2
    assert f"does not run on {AZURE} alone: it leaves" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(asked) == 2
    assert "nothing falls back to it" in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_sessions_of_a_package_keep_to_it(net: Path, tmp_path: Path) -> None:
    package = optimize(net, tmp_path / "out", target="elsewhere", recipe="lossless")
    package.session()
    said = json.loads((package.path / "graphopt.json").read_text())
    (package.path / "graphopt.json").write_text(json.dumps(said | {"cpu_fallback": False}))

    with pytest.raises(BadInput, match=r"alone: it leaves .*MatMul"):
        Package.load(package.path).session()


@pytest.mark.usefixtures("elsewhere")
def test_a_session_that_is_silently_on_the_cpu(net: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"runs on {CPU} here"):
        optimize(net, tmp_path / "out", target="silent", recipe="lossless")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("elsewhere")
def test_a_target_that_does_not_tell(net: Path, tmp_path: Path) -> None:
    report = optimize(net, tmp_path / "out", target="mute", recipe="lossless").report()

    assert report.coverage == {}
    assert any("do not tell where nodes run" in note for note in report.notes)


@pytest.mark.usefixtures("elsewhere")
def test_inspect(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    optimize(net, tmp_path / "out", target="elsewhere", recipe="lossless")
    capsys.readouterr()
    assert run(["inspect", str(tmp_path / "out"), "--coverage", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)["coverage"]["model"]

    assert {one["provider"] for one in found["fallbacks"]} == {CPU}
    assert run(["inspect", str(net), "--coverage"]) == 2
    assert "is a file, not a package folder" in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_validate_prints_it(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = optimize(net, tmp_path / "out", target="elsewhere", recipe="lossless")
    capsys.readouterr()

    assert run(["validate", str(package.path), "--reference", str(net)]) == 0
    assert f"nodes on {AZURE}" in capsys.readouterr().out


def test_text_of_several_graphs() -> None:
    from rich.console import Console

    console = Console(width=100, record=True)
    console.print(coverage_text("encoder", CoverageReport.of(Coverage(NPU, ()))))
    assert f"encoder: 0 of 0 nodes on {NPU}" in console.export_text()
