"""A target whose runtime is in a Python of its own: all that is done with packages, by way of its sessions.

The runtime is onnxruntime, as if it could not live beside graphopt's; `make test-targets` has real ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from graphopt import Package, optimize
from graphopt.cli import main
from graphopt.cli._main import run
from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.evaluate import LanguageAccuracy, Measurement, _worker, fallback_nodes
from graphopt.ir import load_model, parse, save_model
from graphopt.plugins import registry
from graphopt.targets import Capabilities, ForeignTarget, RegisteredKernels, _described, _foreign
from tests._cache import ROOT
from tests._models import write_model

DESCRIPTION = """
title = "onnxruntime, elsewhere"
provider = "Elsewhere"
last_run = "never"

[wheels]
needs = []
interpreter = ["elsewhere==1.0"]

[options]
answer = "42"
"""
DOUBLE = """<ir_version: 10, opset_import: ["" : 23]>
g (float[N] x) => (float[N] y) { y = Add(x, x) }
"""


class Elsewhere(ForeignTarget):
    name: ClassVar[str] = "elsewhere"
    engine: ClassVar[Path] = ROOT / "tests" / "_foreign_engine.py"

    def capabilities(self) -> Capabilities:
        return RegisteredKernels()


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.toml"
    file.write_text(DESCRIPTION)
    monkeypatch.setattr(Elsewhere, "file", file, raising=False)
    targets = {**registry.targets(), "elsewhere": Elsewhere}
    monkeypatch.setattr(registry, "targets", lambda: targets)
    monkeypatch.setenv("GRAPHOPT_ELSEWHERE_PYTHON", sys.executable)


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    Elsewhere().compile(parse(DOUBLE), path)
    return path


def test_a_compiled_graph_lies_beside_the_graph_and_is_what_runs(compiled: Path) -> None:
    said = json.loads(compiled.with_name("model.compiled.json").read_text())
    assert (said["file"], said["runtime"]["device"]) == ("model.blob", "CPU")
    assert said["settings"]["options"] == {"answer": "42"}
    session = Elsewhere().session(compiled, threads=1)
    assert session.run(None, {"x": np.ones(2, np.float32)})[0].tolist() == [2.0, 2.0]
    compiled.with_name("model.blob").write_bytes(b"compile")
    with pytest.raises(BadInput, match="cut or swapped"):
        Elsewhere().session(compiled)
    compiled.with_name("model.compiled.json").unlink()
    assert Elsewhere().session(compiled).run(None, {"x": np.ones(1, np.float32)})[0].tolist() == [2.0]


@pytest.fixture
def of_known_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Elsewhere.file
    file.write_text(DESCRIPTION.replace("[wheels]", "fixed_sizes = true\n[wheels]", 1))
    _described._read.cache_clear()


@pytest.mark.usefixtures("of_known_sizes")
def test_sizes_are_those_that_were_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "double.onnx"
    save_model(parse(DOUBLE), source)
    words = ["optimize", str(source), "-o", str(tmp_path / "out"), "--target", "elsewhere", "-q"]
    for more, said in (
        ([], "--dim N=SIZE"),
        (["--dim", "N=2,3"], "one size of N, not 2, 3"),
        (["--dim", "N=3", "--dim", "M=2"], "no such dimension"),
    ):
        assert run([*words, *more]) == 2
        assert said in capsys.readouterr().err
    assert run([*words, "--dim", "N=3"]) == 0
    made = Package.load(tmp_path / "out")
    assert json.loads((made.path / "model.compiled.json").read_text())["settings"]["sizes"] == {"N": 3}
    assert made.run({"x": np.ones(3, np.float32)})["y"].tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(BadInput, match="compiled for N = 3, not 4"):
        made.run({"x": np.ones(4, np.float32)})


@pytest.mark.slow
@pytest.mark.usefixtures("of_known_sizes")
def test_an_encoder_of_one_size_takes_shorter_texts_and_larger_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    write_model("bert", source)
    words = ["optimize", str(source), "--target", "elsewhere", "--recipe", "lossless", "-q", "-o"]
    sizes = ["--dim", "batch=2", "--dim", "sequence=9"]
    assert run([*words, str(tmp_path / "out"), *sizes]) == 0
    made = Package.load(tmp_path / "out")
    assert made.manifest.closing_check == "passed"
    free = optimize(source, tmp_path / "free", recipe="lossless", verify="off")
    ids = np.arange(1, 22).reshape(3, 7)
    given = {spec.name: np.ones_like(ids) for spec in made.interface().inputs} | {"input_ids": ids}
    expected = free.run(given)
    for name, value in made.run(given).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)
    longer = {name: np.ones((1, 10), np.int64) for name in given}
    with pytest.raises(BadInput, match=r"10 long, and .* takes 9 at most"):
        made.run(longer)
    assert run([*words, str(tmp_path / "cpu"), "--target", "cpu", *sizes]) == 2
    assert "leave out --inputs and --dim" in capsys.readouterr().err


def test_it_loads_in_a_fresh_process(compiled: Path) -> None:
    program = f"""
import sys
from pathlib import Path
import numpy as np
from graphopt.targets import ForeignTarget
class Elsewhere(ForeignTarget):
    name, file, engine = "elsewhere", Path({str(Elsewhere.file)!r}), Path({str(Elsewhere.engine)!r})
session = Elsewhere().session(Path({str(compiled)!r}))
print(session.run(None, {{"x": np.ones(3, np.float32)}})[0].sum(), "onnxruntime" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["6.0", "False"]


def test_a_graph_that_it_cannot_run_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(BadInput, match="NoSuchOperator"):
        Elsewhere().compile(parse(DOUBLE.replace("Add(x, x)", "NoSuchOperator(x)")), folder / "model.onnx")
    assert list(folder.iterdir()) == []


def test_a_graph_that_the_runtime_refuses_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RegisteredKernels, "unsupported", lambda self, model: ())
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(BadInput, match=r"Elsewhere cannot compile the graph: .*NoSuchOperator"):
        Elsewhere().compile(parse(DOUBLE.replace("Add(x, x)", "NoSuchOperator(x)")), folder / "model.onnx")
    assert list(folder.iterdir()) == []


def test_without_its_python_doctor_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GRAPHOPT_ELSEWHERE_PYTHON")
    target = Elsewhere()
    assert target.fingerprint() == {"provider": "Elsewhere", "runtime": "not installed"}
    assert target.diagnose().command == "graphopt targets doctor --install elsewhere"
    with pytest.raises(EnvironmentProblem, match=r"elsewhere==1\.0"):
        target.compile(parse(DOUBLE), Path("nowhere.onnx"))
    with pytest.raises(SystemExit, match="4"):
        main(["targets", "doctor", "elsewhere"])
    assert "graphopt targets doctor --install elsewhere" in capsys.readouterr().out


def test_a_wheel_that_is_not_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-openvino brings onnxruntime's files: graphopt would run on it."""
    target = registry.targets()["openvino"]()
    found = {"onnxruntime-openvino": "1.24.1"}
    monkeypatch.setattr(_described, "_version", found.get)
    monkeypatch.setattr(_foreign, "system", lambda: "linux-x86_64")
    told = target.diagnose()
    assert told.state == "wrong wheels"
    assert told.said.startswith("onnxruntime-openvino 1.24.1 is installed, in onnxruntime's place")
    assert "cannot load the context" in told.said
    assert told.command == "pip uninstall -y onnxruntime-openvino onnxruntime && pip install onnxruntime"
    with pytest.raises(EnvironmentProblem, match="is not used"):
        target.compile(parse(DOUBLE), Path("nowhere.onnx"))


def test_operators_that_were_tried_are_compared_with_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = '[operators]\nsource = "s"\nversion = "1"\ndate = 2026-01-01\n'
    table += '[operators.domains."ai.onnx"]\nAdd = ["7+"]\n'
    Elsewhere.file.write_text(DESCRIPTION + table)
    _described._read.cache_clear()
    written = Elsewhere().description.operators
    assert written is not None
    now = written.model_copy(update={"version": "2", "domains": {"ai.onnx": {"Relu": ("6+",)}}})
    monkeypatch.setattr(Elsewhere, "probed", lambda self: now)
    assert run(["targets", "doctor", "--probe", "elsewhere"]) == 1
    said = capsys.readouterr().out
    assert "2 changes since 1, 2026-01-01 (asked: 2)" in said
    assert "- ai.onnx Add 7+" in said
    assert "+ ai.onnx Relu 6+" in said
    assert run(["targets", "doctor", "--probe"]) == 0, "only those that were named: it takes minutes"
    assert "elsewhere" not in capsys.readouterr().out
    assert run(["targets", "doctor", "--probe", "elsewhere", "--write"]) == 0
    _described._read.cache_clear()
    assert Elsewhere().description.operators == now


def test_what_has_no_python_of_its_own_is_not_installed_so(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in ((["cpu"], "no Python of its own"), ([], "say which")):
        with pytest.raises(SystemExit, match="2"):
            main(["targets", "doctor", "--install", *words])
        assert said in capsys.readouterr().err


def test_another_version_of_the_runtime_is_told(compiled: Path) -> None:
    place = compiled.with_name("model.compiled.json")
    said = json.loads(place.read_text())
    said["runtime"]["engine"] = "0.1"
    place.write_text(json.dumps(said))
    with pytest.raises(BadInput, match=r"compiled for engine 0\.1") as problem:
        Elsewhere().session(compiled)
    assert "Make the package again" in str(problem.value)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, tiny_coder: Path) -> Callable[[], Package]:
    """tiny-coder, made for it once; call it where the target is registered."""
    made: list[Package] = []

    def get() -> Package:
        if not made:
            out = tmp_path_factory.mktemp("packages") / "out"
            made.append(optimize(tiny_coder, out, target="elsewhere", recipe="lossless", verify="off"))
        return made[0]

    return get


@pytest.mark.slow
def test_a_package_is_checked_and_writes_and_validates(
    package: Callable[[], Package], tiny_coder_at: Callable[[str], Path]
) -> None:
    made = package()
    assert made.manifest.closing_check == "passed"
    assert made.manifest.target.fingerprint["device"] == "CPU"
    assert (made.path / "model.blob").is_file()
    text = made.generate("def f(", max_new_tokens=8)
    assert text == Package.load(tiny_coder_at("lossless")).generate("def f(", max_new_tokens=8)
    assert fallback_nodes(made) == []
    found = made.validate(tiny_coder_at("lossless"), tokens=256).result
    assert isinstance(found, LanguageAccuracy)
    assert found.kl_mean.value < 1e-6


@pytest.mark.slow
def test_a_package_is_measured(package: Callable[[], Package]) -> None:
    asked = _worker.Ask(package().path, ("tpot", "batch_tokens_per_second"), prompt=4, new=2, batch=2)
    found = Measurement.of(_worker.measure(asked))
    assert len(found.step_seconds[0]) == 2
    assert found.peak_rss > 0


def test_a_lost_process_ends_a_command_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    save_model(parse(DOUBLE), path)
    session: Any = Elsewhere().session(path)
    os.kill(session.worker._process.pid, 9)
    with pytest.raises(EnvironmentProblem, match=r"the process of elsewhere ended .SIGKILL"):
        session.run(None, {"x": np.ones(1, np.float32)})
    assert load_model(path).graph.name == "g"
