"""The recipe int8 of a convolutional model, from what it is calibrated on to a package, and bad data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt import BadInput, Package, optimize
from graphopt.build import _driver
from graphopt.cli._main import run
from graphopt.ir import to_proto
from graphopt.plugins import registry
from tests.passes._vision import BLOCKS

SAMPLES = np.random.default_rng(0).standard_normal((16, 8, 8, 8)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_driver, "settled", lambda job, again: job)  # which is too small to be worth it
    onnx.save(to_proto(BLOCKS["residual"].model()), "net.onnx")
    return tmp_path


def made(**options: object) -> Package:
    return optimize("net.onnx", "out", recipe="int8", force=True, verify="off", cache=False, **options)


def integers(package: Package) -> int:
    nodes = onnx.load(package.path / "model.onnx", load_external_data=False).graph.node
    return sum(node.op_type == "QuantizeLinear" for node in nodes)


def held(package: Package) -> int:
    """Bytes of all weights."""
    graph = onnx.load(package.path / "model.onnx").graph
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)


def test_folders_and_files_of_arrays(folder: Path) -> None:
    (folder / "some").mkdir()
    np.savez(folder / "some" / "a.npz", x=SAMPLES[:9])
    np.save(folder / "some" / "b.npy", SAMPLES[9:])
    np.save(folder / "all.npy", SAMPLES)
    (folder / "giving.py").write_text(
        "import numpy\ndef samples():\n    yield {'x': numpy.load('all.npy')}\n", encoding="utf-8"
    )
    for given in ("some", "all.npy", "giving:samples"):
        package = made(calibration=given)
        assert integers(package) > 5
        assert package.report().notes[0] == f"calibrated on {given}: 16 samples"
        assert package.manifest.closing_check == "passed"


def test_what_it_was_calibrated_on_is_what_it_is_compared_on(folder: Path) -> None:
    np.savez("samples.npz", x=SAMPLES)
    cases = {metric.case for metric in made(calibration="samples.npz").report().closing.metrics}
    assert cases == {"the last samples of samples.npz"}


def test_a_package_of_integers_stays_what_it_is(folder: Path) -> None:
    np.savez("samples.npz", x=SAMPLES)
    first = made(calibration="samples.npz")
    size, count = held(first), integers(first)
    (folder / "net.onnx").unlink()
    onnx.save(onnx.load(first.path / "model.onnx"), "net.onnx")
    again = made(calibration="samples.npz")

    assert integers(again) == count
    assert held(again) <= size
    assert again.manifest.closing_check == "passed"


def test_the_report_counts_the_kernels_that_the_runtime_makes_of_it(folder: Path) -> None:
    np.savez("samples.npz", x=SAMPLES)
    (note,) = (n for n in made(calibration="samples.npz").report().notes if n.startswith("Once loaded"))
    assert note == (
        "Once loaded, model.onnx is 2 QLinearConv, 2 Transpose, 1 Flatten, 1 NhwcMaxPool, 1 QGemm, "
        "1 QLinearAdd, 1 QLinearGlobalAveragePool, 1 QuantizeLinear."
    )


def test_the_report_says_what_is_in_floats_beside_integers_and_why(folder: Path) -> None:
    parts = BLOCKS["residual"]
    nodes = parts.nodes.replace("b = Relu(a)", "r = Relu(a)  b = Erf(r)")
    onnx.save(to_proto(replace(parts, nodes=nodes).model()), "net.onnx")
    np.savez("samples.npz", x=SAMPLES)
    report = made(calibration="samples.npz").report()

    (island,) = report.islands["model"]
    assert island.operators == ["Erf"]
    assert island.reason == "Erf: the target computes it in floats alone"
    said = f"In floats beside integers: 1 Erf, from {island.nodes[0]!r} on: {island.reason}."
    assert said in report.notes


def test_without_data_convolutions_stay_and_the_report_says_what_to_give(folder: Path) -> None:
    package = made(dims=["N=1,2"])
    assert integers(package) == 0
    assert any(
        note == "quantize-static: 2 convolutions stay in floats: there is nothing to calibrate on; give "
        "--calibration"
        for note in package.report().notes
    )


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (SAMPLES.astype(np.float64), "'x' is float64"),
        (SAMPLES[:, :3], "which the model does not take"),
        (np.where(SAMPLES > 3, np.nan, SAMPLES), "x has NaN or infinite entries"),
        (SAMPLES[:3], r"quantize-static \(mse\) needs 8 samples, it has 3"),
        (SAMPLES[:0], "no samples"),
    ],
    ids=["dtype", "shape", "nan", "few", "none"],
)
def test_samples_that_will_not_do(folder: Path, samples: np.ndarray, said: str) -> None:
    np.savez("bad.npz", x=samples)
    with pytest.raises(BadInput, match=said):
        made(calibration="bad.npz")
    assert not (folder / "out").exists()


def test_one_array_for_a_model_of_two_inputs(folder: Path) -> None:
    two = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 23]>\n'
        "g (float[N,4] a, float[N,4] b) => (float[N,4] y) { y = Add(a, b) }"
    )
    onnx.save(two, "net.onnx")
    np.save("one.npy", SAMPLES)
    with pytest.raises(BadInput, match="the model has the inputs a, b"):
        made(calibration="one.npy")


def test_a_file_that_is_no_array(folder: Path) -> None:
    Path("bad.npy").write_bytes(b"\x93NUMPY junk")
    with pytest.raises(BadInput, match="no array of numbers"):
        made(calibration="bad.npy")


def test_functions_are_code_and_not_called_without_plugins(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "planted.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    with registry.built_in_only(), pytest.raises(BadInput, match="plugins are switched off"):
        made(calibration="planted:samples")
    code = run(
        ["optimize", "net.onnx", "--recipe", "int8", "--calibration", "planted:samples", "--no-plugins"]
    )
    assert code == 2
    assert "is code" in capsys.readouterr().err
