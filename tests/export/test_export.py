"""From a source to a graph: what comes with it, and when the weights have to be loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import load_file, save_file

from graphopt.errors import BadInput
from graphopt.export import export, load_torch_model, resolve_source
from graphopt.interface import Interface
from graphopt.ir import FileRange, LazyTensor, save_model
from tests._models import KINDS
from tests.export._exports import TOLERANCE, Built, worst_difference


def test_a_folder_becomes_a_graph_without_reading_weights(
    tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model("llama", dtype="bfloat16")
    monkeypatch.setattr(FileRange, "read", lambda *_: pytest.fail("a weight was read"))
    said: list[str] = []

    made = export(resolve_source(folder), progress=said.append)

    assert (made.task, made.source_dir, made.notes) == ("text-generation", folder, [])
    assert made.family is not None
    assert made.family.name == "causal-lm"
    assert made.config is not None
    assert made.config["hidden_size"] == 64
    assert made.interface == Interface.of(made.model)
    assert made.model.opset_imports[""] == 23
    assert not made.model.functions
    assert not any(node.metadata_props for node in made.model.graph)
    big = [v.const_value for v in made.model.graph.initializers.values() if v.const_value.nbytes > 4096]
    assert len(big) == 15  # seven of each layer, and the embedding once
    assert all(isinstance(tensor, LazyTensor) for tensor in big)
    assert said[0] == "loading PyTorch and transformers"
    assert "tracing LlamaForCausalLM" in said


def test_what_names_cannot_tell_is_loaded_and_noted(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    """The configuration ties what the checkpoint holds twice, differently: transformers does not tie it."""
    folder = tmp_path / "untied"
    shutil.copytree(tiny_model("llama"), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 0.5
    save_file(tensors, folder / "model.safetensors")

    made = export(resolve_source(folder))

    assert any(
        "loaded into memory" in note and "copies in the checkpoint differ" in note for note in made.notes
    )
    save_model(made.model, tmp_path / "model.onnx")
    assert made.family is not None
    assert made.config is not None
    built = Built(folder, tmp_path / "model.onnx", made.family, made.task, made.config, made.interface)
    reference = made.family.reference(folder, made.task, made.interface)
    for case in built.cases().values():
        assert worst_difference(built.run(case.feeds), reference(case.feeds), case) < TOLERANCE


def test_a_missing_head_is_an_error_not_random_numbers(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "headless"
    shutil.copytree(tiny_model("bert"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"architectures": ["BertForSequenceClassification"]})
    )

    with pytest.raises(BadInput, match=r"lacks weights of BertForSequenceClassification: classifier"):
        export(resolve_source(folder))
    with pytest.raises(BadInput, match=r"lacks weights of BertForSequenceClassification: classifier"):
        load_torch_model(folder, "AutoModelForSequenceClassification")


def test_a_pickled_checkpoint_is_refused_with_the_command_that_converts_it(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text((tiny_model("llama") / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    for attempt in (
        lambda: export(resolve_source(tmp_path)),
        lambda: load_torch_model(tmp_path, "AutoModel"),
    ):
        with pytest.raises(BadInput, match=r"pickled(.|\n)*python -c"):
            attempt()


def test_an_onnx_file_is_taken_as_it_is(tmp_path: Path) -> None:
    x = ir.Value(name="x", shape=ir.Shape(["n", 2]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Relu", [x])
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = "y", x.shape, x.type
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 17}, name="net")
    save_model(ir.Model(graph, ir_version=10), tmp_path / "net.onnx")

    made = export(resolve_source(tmp_path / "net.onnx"))

    assert (made.task, made.family, made.config, made.source_dir) == ("onnx", None, None, None)
    assert made.interface.inputs[0].dims == ("n", 2)
    assert made.model.opset_imports[""] == 17
    with pytest.raises(BadInput, match="is an ONNX file"):
        export(resolve_source(tmp_path / "net.onnx"), task="text-generation")


@pytest.mark.parametrize("kind", ["llama", "vit"])
def test_reference_models_are_float32_whatever_they_are_stored_as(
    kind: str, tiny_model: Callable[..., Path]
) -> None:
    model: Any = load_torch_model(tiny_model(kind, dtype="bfloat16"), KINDS[kind].auto)
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}
    assert not model.training
    assert np.isfinite(next(model.parameters()).detach().numpy()).all()


@pytest.mark.parametrize("kind", ["bert-mlm", "vit"])
def test_features_need_no_pooler(kind: str, tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    """What was saved for another task has none: each position's vector is there all the same."""
    source = tiny_model(kind)
    made = export(resolve_source(source), task="feature-extraction")

    assert [spec.name for spec in made.interface.outputs] == ["last_hidden_state"]
    assert any("holds no pooler" in note for note in made.notes)
    save_model(made.model, tmp_path / "model.onnx")
    assert made.family is not None
    assert made.config is not None
    built = Built(source, tmp_path / "model.onnx", made.family, made.task, made.config, made.interface)
    reference = made.family.reference(source, made.task, made.interface)
    for case in built.cases().values():
        assert worst_difference(built.run(case.feeds), reference(case.feeds), case) < TOLERANCE


def test_what_is_left_out_of_a_checkpoint_is_noted(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "more"
    shutil.copytree(tiny_model("llama"), folder)
    tensors = load_file(folder / "model.safetensors") | {"mtp.fc.weight": torch.ones(2)}
    save_file(tensors, folder / "model.safetensors")
    assert export(resolve_source(folder)).notes == ["left out, as they guess later tokens: mtp.fc.weight"]
