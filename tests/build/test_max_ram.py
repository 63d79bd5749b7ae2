"""A limit on memory is kept, or the run ends and says what took more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from graphopt import BadInput, optimize
from graphopt.build._memory import limited, ram_bytes
from graphopt.calibrate import from_arrays
from graphopt.cli._main import main
from graphopt.interface import Interface
from graphopt.pipeline import Context

HELD = 300_000_000
NET = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[batch, 4] x) => (float[batch, 4] y) { a = Identity(x)
  y = Relu(a) }
"""
HOLD = f"held = b'1' * {HELD}"  # each byte written, so that all of it is in memory


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(onnx.parser.parse_model(NET).SerializeToString())
    return tmp_path / "net.onnx"


def test_what_does_not_fit_at_all_is_refused_before_anything_is_read(net: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--max-ram 10MB: \d+\.\d\d GB were taken by the end of: starting"):
        optimize(net, tmp_path / "out", max_ram="10MB")
    assert not (tmp_path / "out").exists()


def test_the_command_ends_as_with_any_bad_input(net: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["optimize", str(net), "-o", str(tmp_path / "out"), "--max-ram", "10MB"])
    assert ended.value.code == BadInput.exit_code


def test_under_a_large_limit_the_package_is_the_same(net: Path, tmp_path: Path) -> None:
    free, held = (
        optimize(net, tmp_path / name, recipe="lossless", dims=("batch=2",), max_ram=limit)
        for name, limit in (("free", None), ("held", "1TB"))
    )
    assert (free.path / "model.onnx").read_bytes() == (held.path / "model.onnx").read_bytes()


SCRIPT = f"""
import subprocess, sys
from graphopt.build._memory import limited
from graphopt.errors import BadInput
for limit in ("300MB", "1GB"):
    with limited(limit, lambda text: None) as say:
        say("small")
        say("large")
        if sys.argv[1] == "own":
            {HOLD}
            del held
        else:
            subprocess.run([sys.executable, "-c", "import time; {HOLD}; time.sleep(1)"])
        try:
            say("next")
        except BadInput as error:
            print(error.message.partition("by the end of: ")[2])
        else:
            print("kept")
"""


@pytest.mark.parametrize("whose", ["own", "child"])
def test_memory_that_was_given_back_counts_and_what_took_it_is_named(whose: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, whose], capture_output=True, text=True)
    assert done.stdout.split() == ["large", "kept"], done.stderr


@pytest.mark.parametrize("text", ["10", "GB", "3 gigabytes", "-3GB", "nanGB", ""])
def test_what_is_no_size_is_said(text: str) -> None:
    with pytest.raises(BadInput, match="--max-ram"):
        ram_bytes(text)


def test_sizes_are_read_in_the_units_of_budgets() -> None:
    assert [ram_bytes(text) for text in ("3GB", "2.5 GiB", "10MB")] == [3 * 10**9, 5 << 29, 10**7]


def test_without_a_limit_nothing_is_watched() -> None:
    with limited(None, print) as say:
        assert say is print


def test_a_stream_holds_a_quarter_of_it_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("graphopt.pipeline._context.Stream", lambda *_, memory, **__: asked.append(memory))
    model = ir.from_proto(onnx.parser.parse_model(NET))
    data = from_arrays("zeros", [{"x": np.zeros((2, 4), np.float32)}], Interface.of(model))
    for max_ram in (None, 4000):
        Context(model, calibration=data, max_ram=max_ram).stream(memory=3000)
    assert asked == [3000, 1000]
