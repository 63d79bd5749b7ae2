"""A folder that was quantized, from config.json to the graph that runs its integers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from graphopt.errors import BadInput
from graphopt.export import export, resolve_source
from graphopt.ir import LazyTensor, blocks_of, lazy, same_content
from graphopt.pipeline import Context
from graphopt.plugins import load_recipe, run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests._models import write_model

GROUP = 32
SAID = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False}


def packed(columns: np.ndarray[Any, Any]) -> Any:
    """int32 [n / 8, ...] of 4-bit integers [n, ...], as GPTQ's tools pack them."""
    words = np.zeros((len(columns) // 8, *columns.shape[1:]), np.uint32)
    for place in range(8):
        words |= columns[place::8].astype(np.uint32) << np.uint32(4 * place)
    return torch.from_numpy(words.view(np.int32).copy())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny Llama of plain weights, and one whose linear layers hold them quantized."""
    plain, quantized = (tmp_path_factory.mktemp(name) for name in ("plain", "quantized"))
    write_model("llama", plain)
    tensors = load_file(plain / "model.safetensors")
    rng, stored = np.random.default_rng(0), dict(tensors)
    for key in [key for key in tensors if key.endswith("_proj.weight")]:
        count, width = tensors[key].shape
        q = rng.integers(0, 16, (count, width))
        zeros = rng.integers(1, 16, (count, width // GROUP))
        scales = (rng.random((count, width // GROUP)) * 0.02).astype(np.float16)
        groups = np.arange(width) // GROUP
        weight = scales.astype(np.float32)[:, groups] * (q - zeros[:, groups]).astype(np.float32)
        tensors[key] = torch.from_numpy(weight)
        del stored[key]
        layer = key.removesuffix("weight")
        stored[f"{layer}qweight"] = packed(q.T)
        stored[f"{layer}qzeros"] = packed(zeros - 1).T.contiguous()
        stored[f"{layer}scales"] = torch.from_numpy(scales.T.copy())
        stored[f"{layer}g_idx"] = torch.from_numpy(groups.astype(np.int32))
    save_file({k: t.float() for k, t in tensors.items()}, plain / "model.safetensors", {"format": "pt"})
    save_file(stored, quantized / "model.safetensors", {"format": "pt"})
    config = json.loads((plain / "config.json").read_text())
    (quantized / "config.json").write_text(json.dumps(config | {"quantization_config": SAID}))
    return plain, quantized


def test_its_graph_is_that_of_the_plain_weights(folders: tuple[Path, Path]) -> None:
    plain, quantized = (export(resolve_source(folder)) for folder in folders)

    assert quantized.notes == ["weights are read as they were quantized (gptq: 4 bits, groups of 32)"]
    assert "quantization_config" not in (quantized.config or {})
    weights = quantized.model.graph.initializers
    kept = 0
    for name, value in plain.model.graph.initializers.items():
        a, b = value.const_value, weights[name].const_value
        assert a is not None
        assert b is not None
        assert same_content(a, b)
        kept += isinstance(b, LazyTensor) and blocks_of(lazy(b)) is not None
    assert kept == 2 * 7


def test_the_recipe_runs_its_integers(folders: tuple[Path, Path]) -> None:
    model = export(resolve_source(folders[1])).model
    run_recipe(model, load_recipe("lossless").expanded(()), Context(model))
    run_recipe(model, Recipe("test", "", Budget(), (Step("keep-blocks"),)), Context(model))

    products = [node for node in model.graph if node.op_type == "MatMulNBits"]
    assert len(products) == 2 * 7
    assert all(len(node.inputs) == 4 for node in products)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 8}, r"not what its configuration says"),
        ({"group_size": 64}, r"with 4 bits, groups of 64"),
        ({"quant_method": "spqr"}, r"already quantized \(spqr\)"),
        ({"checkpoint_format": "bitblas"}, r"in the format 'bitblas'"),
    ],
)
def test_a_configuration_of_something_else_is_refused(
    tmp_path: Path, folders: tuple[Path, Path], change: dict[str, Any], message: str
) -> None:
    config = json.loads((folders[1] / "config.json").read_text())
    config["quantization_config"] = SAID | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").hardlink_to(folders[1] / "model.safetensors")

    with pytest.raises(BadInput, match=message):
        export(resolve_source(tmp_path))
