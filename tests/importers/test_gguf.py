"""GGUF files, held against what the package `gguf` and transformers read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import transformers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from graphopt import optimize
from graphopt.errors import BadInput
from graphopt.export import export, resolve_source
from graphopt.importers import GgufCheckpoint, write_model_folder
from graphopt.ir import Blocks
from tests.importers._gguf_file import HIDDEN, LAYERS, write_llama

KINDS = {
    "q_proj": "Q4_0",
    "k_proj": "Q5_0",
    "v_proj": "Q6_K",
    "o_proj": "Q3_K",
    "gate_proj": "Q4_K",
    "up_proj": "Q4_1",
    "down_proj": "BF16",
    "embed_tokens": "Q6_K",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> GgufCheckpoint:
    folder = tmp_path_factory.mktemp("gguf")
    write_model_folder(write_llama(folder / "tiny.gguf", KINDS), folder / "model")
    return GgufCheckpoint(folder / "model")


@pytest.fixture(scope="module")
def by_transformers(checkpoint: GgufCheckpoint) -> dict[str, torch.Tensor]:
    config = transformers.AutoConfig.from_pretrained(checkpoint.folder)
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(config)
    found = load_gguf_checkpoint(checkpoint.path, return_tensors=True, model_to_load=network)
    return dict(found["tensors"])


def test_every_weight_is_what_transformers_reads(
    checkpoint: GgufCheckpoint, by_transformers: dict[str, torch.Tensor]
) -> None:
    assert set(checkpoint.keys()) == set(by_transformers)
    for name in sorted(by_transformers):
        mine = checkpoint.expr(name).read()
        assert np.array_equal(mine.astype(np.float32), by_transformers[name].numpy()), name


@pytest.mark.parametrize(
    ("part", "form"), [("q_proj", (4, 32)), ("k_proj", (8, 32)), ("v_proj", (8, 16)), ("o_proj", (4, 16))]
)
def test_what_kernels_hold_stays_in_blocks(
    checkpoint: GgufCheckpoint, part: str, form: tuple[int, int]
) -> None:
    expr = checkpoint.expr(f"model.layers.1.self_attn.{part}.weight")
    assert isinstance(expr, Blocks)
    assert (expr.bits, expr.block) == form


@pytest.mark.parametrize("name", ["self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.down_proj"])
def test_a_piece_is_what_the_whole_has_there(checkpoint: GgufCheckpoint, name: str) -> None:
    expr = checkpoint.expr(f"model.layers.0.{name}.weight")
    rows, columns = slice(37, 91), slice(129, HIDDEN - 5)
    assert np.array_equal(expr.read((rows, columns)), expr.read()[rows, columns])


def test_rows_of_heads_are_told_apart(
    checkpoint: GgufCheckpoint, by_transformers: dict[str, torch.Tensor]
) -> None:
    """Without that the rows of q and k are others: the check of all weights would see it."""
    expr = checkpoint.expr("model.layers.0.self_attn.q_proj.weight")
    assert isinstance(expr, Blocks)
    as_they_lie = expr.packed.over(lambda source: source)
    object.__setattr__(as_they_lie, "heads", 0)
    lying = as_they_lie.read()
    object.__setattr__(as_they_lie, "heads", 4)
    assert not np.array_equal(lying, expr.packed.read())
    assert np.array_equal(np.sort(lying, axis=0), np.sort(expr.packed.read(), axis=0))


@pytest.mark.parametrize("left", [10, 5_000, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, left: int) -> None:
    whole = write_llama(tmp_path / "whole.gguf", {})
    short = tmp_path / "short.gguf"
    short.write_bytes(whole.read_bytes()[:left])
    with pytest.raises(BadInput, match="truncated"):
        write_model_folder(short, tmp_path / "model")


def _llama3(theta: float, count: int) -> np.ndarray:
    """By transformers: its plain frequencies over those of Llama 3.1's rule."""
    config = transformers.LlamaConfig(hidden_size=8 * count, num_attention_heads=4, head_dim=2 * count)
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / theta ** (np.arange(count) / count)
    return np.asarray(plain / scaled.numpy(), np.float32)


def test_scaled_rotations_are_not_lost(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "scaled.gguf", {}, factors=_llama3(10000.0, 32))
    write_model_folder(path, tmp_path / "model")
    rope = transformers.AutoConfig.from_pretrained(tmp_path / "model").rope_parameters
    assert (rope["rope_type"], rope["factor"], rope["original_max_position_embeddings"]) == (
        "llama3",
        8.0,
        8192,
    )


def test_rotations_scaled_in_another_way_are_refused(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "other.gguf", {}, factors=np.linspace(1, 3, 32))
    with pytest.raises(BadInput, match="factors"):
        write_model_folder(path, tmp_path / "model")


def test_blocks_without_integer_zero_points_are_refused_unless_asked_for(tmp_path: Path) -> None:
    source = resolve_source(write_llama(tmp_path / "k.gguf", {"gate_proj": "Q4_K"}))
    with pytest.raises(BadInput, match=r"Q4_K(.|\n)*--requantize"):
        export(source)
    made = export(replace(source, requantize=True))
    weight = made.model.graph.initializers["model.layers.0.mlp.gate_proj.weight"].const_value
    assert weight is not None
    assert weight.dtype == ir.DataType.FLOAT


def test_a_package_keeps_the_bytes_of_a_file(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "m.gguf", {"q_proj": "Q4_0", "k_proj": "Q4_0", "v_proj": "Q4_0"})
    package = optimize(path, tmp_path / "package", validate=False, verify="off", cache=False)
    graph = onnx.load(package.path / "model.onnx")
    forms = Counter((a["bits"], a["block_size"]) for a in map(_attributes, graph.graph.node) if "bits" in a)
    assert forms == {(4, 32): LAYERS, (8, 32): 4 * LAYERS + 2}


def _attributes(node: onnx.NodeProto) -> dict[str, int]:
    return {a.name: a.i for a in node.attribute}
