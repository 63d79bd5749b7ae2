"""A runtime in a process and an interpreter of its own: what it gives, and what becomes of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.interface import Interface
from graphopt.ir import parse, save_model
from graphopt.runtime import (
    CompiledFile,
    Decoder,
    ForeignDecoder,
    ForeignSession,
    Interpreter,
    RuntimeRefused,
    RuntimeWorker,
    open_session,
    session_model,
)
from tests._cache import ROOT

ENGINE = ROOT / "tests" / "_foreign_engine.py"
INTERPRETER = Interpreter("other", ("other==1.0",))
DOUBLE = """<ir_version: 10, opset_import: ["" : 23]>
g (float[N] x) => (float[N] y, float[M] wide) { y = Add(x, x)  wide = Concat<axis = 0>(y, y, y, y) }
"""


@pytest.fixture(autouse=True)
def this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_OTHER_PYTHON", sys.executable)


@pytest.fixture
def worker() -> Iterator[RuntimeWorker]:
    made = RuntimeWorker(INTERPRETER, ENGINE)
    yield made
    made.close()


def session(worker: RuntimeWorker, folder: Path, text: str = DOUBLE) -> ForeignSession:
    model = parse(text)
    save_model(model, folder / "model.onnx")
    return ForeignSession(worker, folder / "model.onnx", {}, Interface.of(model), "Other")


def test_results_are_the_runtime_s_and_larger_than_the_feeds(worker: RuntimeWorker, tmp_path: Path) -> None:
    made = session(worker, tmp_path)
    for size in (3, 0, 1 << 20, 5):
        x = np.arange(size, dtype=np.float32)
        y, wide = made.run(None, {"x": x})
        assert np.array_equal(y, 2 * x)
        assert np.array_equal(wide, np.tile(2 * x, 4))
    (only,) = made.run(["wide"], {"x": np.ones(2, np.float32)})
    assert only.tolist() == [2.0] * 8


def test_results_stay_when_the_next_call_is_made(worker: RuntimeWorker, tmp_path: Path) -> None:
    made = session(worker, tmp_path)
    first, _ = made.run(None, {"x": np.ones(4, np.float32)})
    made.run(None, {"x": np.full(4, 7, np.float32)})
    assert first.tolist() == [2.0] * 4


def test_it_describes_itself_as_onnxruntime_does(worker: RuntimeWorker, tmp_path: Path) -> None:
    made, same = session(worker, tmp_path), open_session(tmp_path / "model.onnx")

    def told(arguments: list[ort.NodeArg]) -> list[object]:
        return [(a.name, a.type, a.shape) for a in arguments]

    assert told(made.get_inputs()) == told(same.get_inputs())
    assert told(made.get_outputs()) == told(same.get_outputs())
    assert made.get_providers() == ["Other"]
    (part,) = made.get_provider_graph_assignment_info()
    assert (part.ep_name, [node.name for node in part.get_nodes()]) == ("Other", ["whole"])


def test_all_kinds_of_arrays_go_and_come(worker: RuntimeWorker, tmp_path: Path) -> None:
    kinds = ("float16", "int64", "int32", "int8", "uint8", "bool", "float64")
    inputs = ", ".join(f"{k if k != 'float64' else 'double'}[A, B] {k}_in" for k in kinds)
    outputs = inputs.replace("_in", "_out")
    body = "  ".join(f"{k}_out = Identity({k}_in)" for k in kinds)
    made = session(
        worker,
        tmp_path,
        f'<ir_version: 10, opset_import: ["" : 23]> g ({inputs}) => ({outputs}) {{ {body} }}',
    )
    feeds = {f"{k}_in": np.arange(6).reshape(2, 3).astype(k) for k in kinds}
    for array, given in zip(made.run(None, feeds), feeds.values(), strict=True):
        assert array.dtype == given.dtype
        assert np.array_equal(array, given)


def test_scalars_stay_scalars(worker: RuntimeWorker, tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 23]> g (float x) => (float y) { y = Neg(x) }'
    (y,) = session(worker, tmp_path, text).run(None, {"x": np.float32(2)})
    assert (y.shape, float(y)) == ((), -2.0)


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({}, "'x' is missing"),
        ({"x": np.ones(2, np.float32), "z": np.ones(2)}, "'z' is unknown"),
        ({"x": np.ones((2, 2), np.float32)}, r"float32\['N'\], not float32\[2, 2\]"),
        ({"x": np.ones(2)}, "not float64"),
    ],
)
def test_feeds_that_do_not_fit_are_bad_input(
    worker: RuntimeWorker, tmp_path: Path, feeds: dict[str, np.ndarray], said: str
) -> None:
    model = session_model(session(worker, tmp_path), "it", BadInput)
    with pytest.raises(BadInput, match=said):
        model(feeds)
    assert model({"x": np.ones(1, np.float32)})["y"].tolist() == [2.0]


def test_a_file_that_the_runtime_does_not_load_is_bad_input(worker: RuntimeWorker, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="other cannot load"):
        ForeignSession(worker, tmp_path / "model.onnx", {}, Interface(), "Other")


@pytest.mark.parametrize(("x", "said"), [(-1, "exit status 3"), (-3, "SIGABRT: what it said last")])
def test_a_process_that_ends_is_told_in_words(
    worker: RuntimeWorker, tmp_path: Path, x: float, said: str
) -> None:
    made = session(worker, tmp_path)
    with pytest.raises(EnvironmentProblem, match=f"the process of other ended .{said}"):
        made.run(None, {"x": np.full(2, x, np.float32)})
    with pytest.raises(EnvironmentProblem, match="the process of other ended"):
        made.run(None, {"x": np.ones(2, np.float32)})


def test_a_process_that_hangs_is_ended(tmp_path: Path) -> None:
    made = session(RuntimeWorker(INTERPRETER, ENGINE, seconds=5), tmp_path)
    started = time.monotonic()
    with pytest.raises(EnvironmentProblem, match="gave no answer in time"):
        made.run(None, {"x": np.full(2, -2, np.float32)})
    assert time.monotonic() - started < 60
    assert not made.worker.close.alive


def test_a_run_that_is_no_longer_wanted_ends(worker: RuntimeWorker, tmp_path: Path) -> None:
    made, options = session(worker, tmp_path), ort.RunOptions()
    options.terminate = True
    with pytest.raises(EnvironmentProblem, match="gave no answer in time"):
        made.run(None, {"x": np.full(2, -2, np.float32)}, options)


def test_an_engine_without_its_wheel_is_an_environment_problem(tmp_path: Path) -> None:
    engine = tmp_path / "engine.py"
    engine.write_text("import no_such_wheel\n")
    worker = RuntimeWorker(INTERPRETER, engine)
    with pytest.raises(EnvironmentProblem, match="no_such_wheel") as problem:
        worker.ask("call", {"function": "facts", "arguments": {}})
    assert "doctor --install other" in str(problem.value)
    worker.close()


def test_an_engine_cannot_import_graphopt_s_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the current folder or on PYTHONPATH is none of the worker's."""
    (tmp_path / "planted.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    engine = tmp_path / "engine.py"
    engine.write_text("import planted\n")
    worker = RuntimeWorker(INTERPRETER, engine)
    with pytest.raises(EnvironmentProblem, match="planted"):
        worker.ask("call", {"function": "facts", "arguments": {}})
    worker.close()


def test_without_a_python_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHOPT_OTHER_PYTHON", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"GRAPHOPT_OTHER_PYTHON=.* is no Python"):
        INTERPRETER.python()
    monkeypatch.delenv("GRAPHOPT_OTHER_PYTHON")
    with pytest.raises(EnvironmentProblem, match=r"other==1\.0") as problem:
        RuntimeWorker(INTERPRETER, ENGINE)
    assert "graphopt targets doctor --install other" in str(problem.value)


def test_what_cannot_be_installed_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHOPT_OTHER_PYTHON")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EnvironmentProblem, match=r"the Python for other cannot be made: .*other==1\.0"):
        INTERPRETER.install()
    assert not INTERPRETER.folder.exists()


COMPILED = {"engine": "1", "device": "CPU"}


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """A graph with something that was compiled from it."""
    path, file = tmp_path / "model.onnx", tmp_path / "model.blob"
    path.write_bytes(b"graph")
    file.write_bytes(b"compiled")
    CompiledFile.of(path, file, COMPILED, {"device": "CPU"}).write(path)
    return path


def checked(path: Path, here: dict[str, str]) -> Path:
    found = CompiledFile.beside(path)
    assert found is not None
    return found.checked(path, here)


def test_a_compiled_file_is_loaded_where_all_is_as_it_was(compiled: Path) -> None:
    assert checked(compiled, COMPILED | {"more": "1"}) == compiled.with_name("model.blob")
    assert CompiledFile.beside(compiled.with_name("other.onnx")) is None


@pytest.mark.parametrize(
    ("file", "content", "here", "said"),
    [
        ("model.blob", b"comp", {}, "cut or swapped"),
        ("model.blob", None, {}, "is missing"),
        ("model.onnx", b"another", {}, "from another graph"),
        (None, None, {"engine": "2"}, "compiled for engine 1, and here it is 2"),
        (None, None, {"device": "GPU"}, "compiled for device CPU, and here it is GPU"),
        ("model.compiled.json", b"{}", {}, "does not describe"),
    ],
)
def test_a_wrong_compiled_file_is_found_before_it_is_loaded(
    compiled: Path, file: str | None, content: bytes | None, here: dict[str, str], said: str
) -> None:
    if file is not None and content is not None:
        compiled.with_name(file).write_bytes(content)
    elif file is not None:
        compiled.with_name(file).unlink()
    with pytest.raises(BadInput, match=said) as problem:
        checked(compiled, COMPILED | here)
    assert "remove model.compiled.json" in str(problem.value)


def test_a_compiled_file_lies_beside_its_graph(compiled: Path) -> None:
    place = compiled.with_name("model.compiled.json")
    place.write_text(place.read_text().replace("model.blob", "../model.blob"))
    with pytest.raises(BadInput, match="not beside it"):
        CompiledFile.beside(compiled)


CACHE = """<ir_version: 10, opset_import: ["" : 23]>
g (int64[B, S] input_ids, float[B, 1, P, 2] past_key_values_0_key)
=> (float[B, S, 3] logits, float[B, 1, T, 2] present_0_key)
<float[3, 2] table = {1, 2, 3, 4, 5, 7}, float[2, 3] head = {1, 0, 2, 0, 1, 1},
 int64[1] one = {1}, int64[1] two = {2}>
{
  rows = Gather(table, input_ids)
  own = Unsqueeze(rows, one)
  present_0_key = Concat<axis = 2>(past_key_values_0_key, own)
  sum = ReduceMean<keepdims = 0>(present_0_key, two)
  both = Add(rows, sum)
  logits = MatMul(both, head)
}
"""


def test_text_is_decoded_as_in_this_process(worker: RuntimeWorker, tmp_path: Path) -> None:
    made = session(worker, tmp_path, CACHE)
    states = {"past_key_values_0_key": "present_0_key"}
    here = open_session(tmp_path / "model.onnx")
    decoders = [Decoder(here, states=states), ForeignDecoder(made, states=states)]
    rng = np.random.default_rng(0)

    def step(count: int) -> None:
        tokens = rng.integers(0, 3, count)
        expected, got = (np.array(decoder.append(tokens)) for decoder in decoders)
        assert np.array_equal(expected, got)

    for count in (4, 1, 1):
        step(count)
    for decoder in decoders:
        decoder.rewind(3)
    step(2)
    kept, there = (decoder.cache() for decoder in decoders)
    assert kept.keys() == there.keys()
    assert all(np.array_equal(kept[name], there[name]) for name in kept)
    for decoder in decoders:
        decoder.reset()
    step(2)


def test_what_the_runtime_refuses_is_told_apart(worker: RuntimeWorker) -> None:
    with pytest.raises(RuntimeRefused):
        worker.ask("load", {"path": "nowhere.onnx", "settings": {}})
