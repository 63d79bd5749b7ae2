"""Seconds and memory of whole process trees, and checkpoints in several files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import transformers
from safetensors import safe_open
from safetensors.numpy import load_file

Script = Callable[[str], ModuleType]
# A process that holds 40 MB for a moment and starts one that holds 60 MB for a moment.
PARENT = """
import subprocess, sys, time
held = bytearray(b"x") * 40_000_000
del held
child = 'import time; held = bytearray(b"x") * 60_000_000; del held; time.sleep(0.4)'
subprocess.run([sys.executable, "-S", "-c", child], check=True)
time.sleep(0.2)
"""


def test_memory_is_the_marks_of_all_processes_together(script: Script, tmp_path: Path) -> None:
    cost = script("_peak").cost
    empty = cost([sys.executable, "-S", "-c", "import subprocess, time; time.sleep(0.2)"], tmp_path / "log")
    both = cost([sys.executable, "-S", "-c", PARENT], tmp_path / "log")

    assert both.seconds > 0.5
    assert both.peak - empty.peak > 95e6  # though never held at once, and freed before the end
    assert 55e6 < both.largest < both.peak - 35e6


def test_seconds_of_cores_are_those_of_all_processes(script: Script, tmp_path: Path) -> None:
    spin = "import time\nwhile time.process_time() < 0.2: pass"
    both = f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {spin!r}])\n{spin}"

    assert script("_peak").cost([sys.executable, "-S", "-c", both], tmp_path / "log").processor >= 0.4


def test_a_command_that_fails_costs_nothing_that_is_kept(script: Script, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="failed, see "):
        script("_peak").cost([sys.executable, "-c", "print('why'); exit(3)"], tmp_path / "log")
    assert (tmp_path / "log").read_text() == "why\n"


TINY = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": 64,
    "tie_word_embeddings": False,
}


def test_a_large_checkpoint_is_in_several_files_of_the_same_weights(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = script("make_model")
    monkeypatch.setitem(make.SHAPES, "tiny", TINY)
    make.write(tmp_path / "one", "tiny")
    make.write(tmp_path / "several", "tiny", shard=4000)

    files = sorted((tmp_path / "several").glob("*.safetensors"))
    index = make.json.loads((tmp_path / "several" / "model.safetensors.index.json").read_text())
    assert [path.name for path in files] == sorted(set(index["weight_map"].values()))
    assert len(files) > 2
    assert not (tmp_path / "one" / "model.safetensors.index.json").exists()

    whole = bits(tmp_path / "one" / "model.safetensors")
    parts = {name: value for path in files for name, value in bits(path).items()}
    assert parts.keys() == whole.keys()
    assert "lm_head.weight" in whole
    for path in files:
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118
                assert index["weight_map"][name] == path.name
                assert np.array_equal(parts[name], whole[name])
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in whole.values())


def bits(path: Path) -> dict[str, np.ndarray]:
    """Of bfloat16 tensors, as ml_dtypes has them."""
    return {name: value.view(np.uint16) for name, value in load_file(path).items()}


@pytest.mark.parametrize("shape", ["whisper-64", "whisper-small"])
def test_a_configured_shape_is_what_its_class_reads(script: Script, shape: str) -> None:
    name, options = script("_configured").SHAPES[shape]
    config = getattr(transformers, name).config_class(**options)

    assert (config.vocab_size, config.num_mel_bins, 2 * config.max_source_positions) == (51865, 80, 3000)
    assert config.d_model == options["d_model"]


def test_every_goal_of_cost_has_its_task(script: Script) -> None:
    names = [task.name for task in script("cost").TASKS]

    assert names[:4] == ["tiny-coder, int4", "1.24 B, int4-fast", "1.24 B, GPTQ", "8 B, int4-fast"]
    assert names[4:] == ["Whisper, 64 wide, 2 + 2 layers, int8", "Whisper-small, int8"]


def test_a_row_says_what_was_measured(script: Script, tmp_path: Path) -> None:
    cost, peak = script("cost"), script("_peak")
    (tmp_path / "model.onnx.data").write_bytes(bytes(1000))

    runs = [peak.Cost(2.0, 3 * 10**9, 10**9, 3.0), peak.Cost(4.0, 10**9, 10**9, 5.0)]
    row = cost.row(cost.TASKS[0], runs, tmp_path)

    assert (row["seconds"], row["peak_gb"], row["largest_gb"], row["written_gb"]) == (3.0, 2.0, 1.0, 1e-6)
    assert row["processor_seconds"] == 4.0
