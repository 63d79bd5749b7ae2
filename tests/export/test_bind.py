"""Weights of a graph found in a checkpoint by name, without reading them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from graphopt.errors import BadInput
from graphopt.export import quiet
from graphopt.export._bind import bind
from graphopt.export._convert import NotByName
from graphopt.export._skeleton import Skeleton, build_skeleton
from graphopt.ir import FileRange, LazyTensor, SafetensorsIndex, lazy
from tests._models import KINDS

Tensors = Mapping[str, torch.Tensor]


class Fake(ir.TensorProtocol):  # type: ignore[misc]
    """A weight as the exporter leaves it: dtype and shape, and a tensor on the meta device for `raw`."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.raw = tensor
        self.name = None
        self.shape = ir.Shape(tensor.shape)
        self.dtype = {torch.float32: ir.DataType.FLOAT, torch.int64: ir.DataType.INT64}[tensor.dtype]


def graph_of(skeleton: Skeleton) -> ir.Model:
    """A graph that has every parameter and buffer of the model, each tensor under its first name."""
    model = skeleton.model
    held = [*model.named_parameters(), *model.named_buffers()]
    values = [ir.Value(name=name, const_value=Fake(tensor)) for name, tensor in held]
    return ir.Model(ir.Graph([], [], nodes=[], initializers=values, opset_imports={"": 23}), ir_version=10)


def bound(auto: str, folder: Path) -> ir.Model:
    with quiet():
        config = transformers.AutoConfig.from_pretrained(folder)
        skeleton = build_skeleton(getattr(transformers, auto), config)
    model = graph_of(skeleton)
    bind(model, skeleton, SafetensorsIndex(folder))
    return model


def arrays(model: ir.Model) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}


def rewritten(source: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], Tensors]) -> Path:
    """A copy of the model in `source` whose checkpoint went through `change`."""
    folder.mkdir()
    (folder / "config.json").write_text((source / "config.json").read_text())
    changed = change(load_file(source / "model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, folder / "model.safetensors")
    return folder


def expect_loaded(model: ir.Model, auto: str, folder: Path) -> None:
    """Every weight is bit for bit what transformers loads in float32."""
    with quiet():
        loaded = getattr(transformers, auto).from_pretrained(folder, dtype=torch.float32)
    wanted = dict([*loaded.named_parameters(), *loaded.named_buffers()])
    found = arrays(model)
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        assert array.dtype == wanted[name].detach().numpy().dtype, name
        assert np.array_equal(array, wanted[name].detach().numpy()), name


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "phi3", "bert-mlm", "roberta", "vit"])
def test_weights_are_those_that_transformers_loads(kind: str, tiny_model: Callable[..., Path]) -> None:
    auto = KINDS[kind].auto
    expect_loaded(bound(auto, tiny_model(kind)), auto, tiny_model(kind))


def test_nothing_is_read(tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileRange, "read", lambda *_: pytest.fail("a weight was read"))
    bound("AutoModelForCausalLM", tiny_model("llama", dtype="bfloat16", shard="100KB"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_upcast_when_read(dtype: str, tiny_model: Callable[..., Path]) -> None:
    folder = tiny_model("llama", dtype=dtype)
    model = bound("AutoModelForCausalLM", folder)
    expect_loaded(model, "AutoModelForCausalLM", folder)
    weight = model.graph.initializers["model.layers.0.mlp.up_proj.weight"].const_value
    assert isinstance(weight, LazyTensor)
    assert weight.dtype == ir.DataType.FLOAT
    assert lazy(weight).identity[0] == "cast"


def test_a_sharded_checkpoint(tiny_model: Callable[..., Path]) -> None:
    folder = tiny_model("llama", shard="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    expect_loaded(bound("AutoModelForCausalLM", folder), "AutoModelForCausalLM", folder)


@pytest.mark.parametrize("kept", ["lm_head.weight", "model.embed_tokens.weight"])
def test_a_tied_weight_is_found_under_either_name(
    kept: str, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    def under_one_name(tensors: dict[str, torch.Tensor]) -> Tensors:
        return tensors | {kept: tensors.pop("model.embed_tokens.weight")}

    folder = rewritten(tiny_model("llama"), tmp_path / "tied", under_one_name)
    expect_loaded(bound("AutoModelForCausalLM", folder), "AutoModelForCausalLM", folder)


def test_equal_copies_of_a_tied_weight_are_one(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = rewritten(
        tiny_model("llama"),
        tmp_path / "copies",
        lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].clone()},
    )
    expect_loaded(bound("AutoModelForCausalLM", folder), "AutoModelForCausalLM", folder)


def test_copies_of_a_tied_weight_that_differ_are_left_to_transformers(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = rewritten(
        tiny_model("llama"),
        tmp_path / "copies",
        lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"] + 1},
    )
    with pytest.raises(NotByName, match="copies in the checkpoint differ"):
        bound("AutoModelForCausalLM", folder)


def test_names_without_the_base_models_prefix(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    """A checkpoint saved from the bare model serves the model with a head that is tied to it."""
    folder = rewritten(
        tiny_model("llama"), tmp_path / "bare", lambda t: {n.removeprefix("model."): x for n, x in t.items()}
    )
    expect_loaded(bound("AutoModelForCausalLM", folder), "AutoModelForCausalLM", folder)


def test_names_with_a_prefix_that_the_bare_model_lacks(tiny_model: Callable[..., Path]) -> None:
    expect_loaded(bound("AutoModel", tiny_model("llama")), "AutoModel", tiny_model("llama"))


def test_old_names_are_renamed_as_transformers_does(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    def old(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    folder = rewritten(tiny_model("bert"), tmp_path / "old", lambda t: {old(n): x for n, x in t.items()})
    assert any("gamma" in key for key in SafetensorsIndex(folder).keys())  # noqa: SIM118
    expect_loaded(bound("AutoModel", folder), "AutoModel", folder)


def test_experts_are_stacked_as_transformers_does(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.MixtralConfig(vocab_size=64, num_key_value_heads=2, num_local_experts=3, **sizes)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert any("experts.2." in key for key in SafetensorsIndex(tmp_path).keys())  # noqa: SIM118
    expect_loaded(bound("AutoModelForCausalLM", tmp_path), "AutoModelForCausalLM", tmp_path)


def test_a_missing_weight_is_an_error(tiny_model: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match=r"lacks weights of BertForMaskedLM: .*cls\.predictions"):
        bound("AutoModelForMaskedLM", tiny_model("bert"))


def test_a_weight_of_another_shape_is_an_error(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = rewritten(tiny_model("llama"), tmp_path / "other", dict)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 192}))
    with pytest.raises(
        BadInput, match=r"has shape \[.*128.*\] in the checkpoint; config.json asks for \[.*192.*\]"
    ):
        bound("AutoModelForCausalLM", folder)


def test_a_constant_that_lost_its_data_is_left_to_transformers(tiny_model: Callable[..., Path]) -> None:
    folder = tiny_model("llama")
    skeleton = build_skeleton(
        transformers.AutoModelForCausalLM, transformers.AutoConfig.from_pretrained(folder)
    )
    model = graph_of(skeleton)
    lost = ir.Value(name="lifted_tensor_0", const_value=Fake(torch.empty(2, device="meta")))
    model.graph.register_initializer(lost)
    with pytest.raises(NotByName, match="'lifted_tensor_0' has no value"):
        bind(model, skeleton, SafetensorsIndex(folder))
