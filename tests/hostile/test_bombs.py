"""Odd graphs, and small ones that are huge once computed: bounded memory and time, and never a bug."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import graphopt
from graphopt import BadInput, _accuracy
from tests.hostile._limited import run_limited
from tests.hostile.files import BOMBS, LEGAL, UNRUNNABLE, serialized

ENDLESS = "loop_without_end"
FILES = {name: build for name, build in (BOMBS | LEGAL | UNRUNNABLE).items() if name != ENDLESS}
INCONCLUSIVE = {"inputs_of_negative_size"}
RUNS = {"many_constants_just_below_the_limit", "a_very_long_chain", "a_very_long_chain_of_constants"} | {
    "a_very_long_chain_of_transposed_weights"
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_optimized_or_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "net.data").write_bytes(bytes(16))
    (folder / "net.onnx").write_bytes(serialized(FILES[name]()))
    done = run_limited(("optimize", "net.onnx", "-o", "out", "--recipe", "lossless", "--quiet"), folder)
    expected = 3 if name in INCONCLUSIVE else 0 if name in LEGAL or name in RUNS else 2

    assert done.code == expected, done.err
    assert "Traceback" not in done.err
    assert (folder / "out").exists() == (expected != 2)


def test_a_model_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = BOMBS[ENDLESS]()
    assert isinstance(model, onnx.ModelProto)
    onnx.save(model, tmp_path / "net.onnx")
    monkeypatch.setattr(_accuracy, "SECONDS", 1.0)
    with pytest.raises(BadInput, match="terminate"):
        graphopt.optimize(tmp_path / "net.onnx", tmp_path / "out", recipe="lossless", verify="structure")
