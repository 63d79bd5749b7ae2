"""Ctrl-C, a full disk, a broken installation, in processes of their own: nothing changes, no debris."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

GRAPHOPT = [sys.executable, "-m", "graphopt"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with net.onnx, whose weight has 400 kB, and a package of it, "out"."""
    weight = numpy_helper.from_array(np.ones((1000, 100), np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1000])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 100])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "net", [x], [y], [weight])
    imports = [helper.make_opsetid("", 23)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), tmp_path / "net.onnx")
    call(tmp_path, "export", "net.onnx", "-o", "out", check=True)
    return tmp_path


def call(
    here: Path, *arguments: str, check: bool = False, **options: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GRAPHOPT, *arguments],
        cwd=here,
        capture_output=True,
        text=True,
        check=check,
        **options,  # type: ignore[call-overload]
    )


def state(here: Path) -> dict[str, int]:
    """Every file with its time of change."""
    return {str(p.relative_to(here)): p.stat().st_mtime_ns for p in here.rglob("*") if p.is_file()}


INTERRUPTED = """
    import signal, sys
    from graphopt.plugins import registry
    from graphopt.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs

    def wait(*_):
        print("compiling", flush=True)
        signal.pause()

    registry.targets()["cpu"].compile = wait
    main(["optimize", "net.onnx", "-o", "out", "--recipe", "lossless", "--force"])
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_midway_leaves_the_old_package_and_no_debris(
    here: Path, number: signal.Signals, code: int
) -> None:
    before = state(here)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "compiling\n"
        assert len(list(here.iterdir())) == 3
        process.send_signal(number)
        said = process.stderr.read()

    assert process.returncode == code
    assert "Traceback" not in said
    assert state(here) == before
    assert sorted(p.name for p in here.iterdir()) == ["net.onnx", "out"]


def test_a_disk_that_is_full_midway_leaves_the_old_package_and_no_debris(here: Path) -> None:
    import resource

    def quota() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    before = state(here)
    done = call(
        here, "optimize", "net.onnx", "-o", "out", "--recipe", "lossless", "--force", preexec_fn=quota
    )

    assert done.returncode == 4
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert state(here) == before
    assert sorted(p.name for p in here.iterdir()) == ["net.onnx", "out"]


def test_two_onnxruntimes_over_each_other_are_named(
    here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = tmp_path_factory.mktemp("site")
    info = site / "onnxruntime_gpu-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("onnxruntime\n")
    done = call(
        here,
        "optimize",
        "net.onnx",
        "-o",
        "new",
        "--recipe",
        "lossless",
        env={**os.environ, "PYTHONPATH": str(site)},
    )

    assert done.returncode == 4
    assert "onnxruntime, onnxruntime-gpu" in done.stderr
    assert "pip uninstall" in done.stderr
    assert not (here / "new").exists()
