"""A checkpoint is used whole: a tensor has a place, is left out for a reason that is told, or is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from graphopt.errors import BadInput
from graphopt.export import load_torch_model, quiet
from graphopt.export._skeleton import build_skeleton
from graphopt.export._whole import left_out
from graphopt.ir import SafetensorsIndex
from tests._models import KINDS

Tensors = dict[str, torch.Tensor]
BIAS = "model.layers.0.self_attn.q_proj.bias"
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def changed(tiny_model: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """`changed(kind, tensors, **config)` is a tiny model with these tensors and settings beside its own."""

    def make(kind: str, tensors: Mapping[str, torch.Tensor], **config: object) -> Path:
        source, folder = tiny_model(kind), tmp_path / "changed"
        shutil.copytree(source, folder)
        held = load_file(source / "model.safetensors") | dict(tensors)
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, folder / "model.safetensors")
        said = json.loads((source / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(said))
        return folder

    return make


def notes(folder: Path, auto: str) -> list[str]:
    with quiet():
        skeleton = build_skeleton(
            getattr(transformers, auto), transformers.AutoConfig.from_pretrained(folder)
        )
    return left_out(skeleton.model, SafetensorsIndex(folder))


@pytest.mark.parametrize("kind", ["llama", "phi3", "gpt2", "bert-mlm", "roberta", "vit", "clip"])
def test_what_transformers_saves_is_used_whole(kind: str, tiny_model: Callable[..., Path]) -> None:
    assert notes(tiny_model(kind), KINDS[kind].auto) == []


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{UP}_scale": torch.ones(128, 1)}, r"no place for: .*up_proj\.weight_scale(.|\n)*quantized"),
        ({BIAS: torch.ones(64)}, r"no place for: .*q_proj\.bias(.|\n)*write it without"),
        ({UP.replace("0", "2"): torch.ones(128, 64)}, r"no place for: model\.layers\.\*"),
        ({f"{UP}.lora_A": torch.ones(4, 64)}, r"lora_A(.|\n)*adapter's"),
        ({"linear.weight": torch.ones(4, 64)}, r"LlamaForCausalLM has no place for: linear\.weight"),
        ({UP: torch.ones(128, 64).to(torch.float8_e4m3fn)}, r"up_proj\.weight as FLOAT8E4M3FN"),
        ({UP: torch.ones(128, 64, dtype=torch.int8)}, r"as INT8, where LlamaForCausalLM has plain"),
        ({UP.removeprefix("model."): torch.ones(128, 64)}, r"both meant for model\.layers\.0\.mlp"),
    ],
)
def test_what_has_no_place_is_refused_by_name(
    tensors: Tensors, message: str, changed: Callable[..., Path]
) -> None:
    folder = changed("llama", tensors)
    with pytest.raises(BadInput, match=message):
        notes(folder, "AutoModelForCausalLM")
    with pytest.raises(BadInput, match=message):
        load_torch_model(folder, "AutoModelForCausalLM")


def test_equal_copies_under_two_names_are_one(
    changed: Callable[..., Path], tiny_model: Callable[..., Path]
) -> None:
    copy = {UP.removeprefix("model."): load_file(tiny_model("llama") / "model.safetensors")[UP]}
    assert notes(changed("llama", copy), "AutoModelForCausalLM") == []


@pytest.mark.parametrize(
    ("tensors", "config", "note"),
    [
        (
            {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)},
            {},
            "left out as in transformers: model.layers.*.self_attn.rotary_emb.inv_freq",
        ),
        (
            {"model.layers.2.eh_proj.weight": torch.ones(64, 128)},
            {"num_nextn_predict_layers": 1},
            "left out, as they guess later tokens: model.layers.*.eh_proj.weight",
        ),
        ({"mtp.fc.weight": torch.ones(64, 128)}, {}, "left out, as they guess later tokens: mtp.fc.weight"),
        (
            {"score.weight": torch.ones(2, 64)},
            {},
            "left out, as LlamaForSequenceClassification has them for another task: score.weight",
        ),
    ],
)
def test_what_is_left_out_rightly_is_told(
    tensors: Tensors, config: dict[str, object], note: str, changed: Callable[..., Path]
) -> None:
    folder = changed("llama", tensors, **config)
    assert notes(folder, "AutoModelForCausalLM") == [note]
    load_torch_model(folder, "AutoModelForCausalLM")


def test_heads_of_another_task_are_told(tiny_model: Callable[..., Path]) -> None:
    (note,) = notes(tiny_model("bert-mlm"), "AutoModelForTokenClassification")
    assert note.startswith("left out, as BertForPreTraining has them for another task: cls.predictions.bias")


def test_files_that_are_not_read_are_told(changed: Callable[..., Path]) -> None:
    folder = changed("llama", {})
    save_file({"a": torch.ones(1)}, folder / "consolidated.safetensors")
    assert notes(folder, "AutoModelForCausalLM") == ["not read: consolidated.safetensors"]


def test_a_text_model_leaves_out_what_the_whole_sees_with(tmp_path: Path) -> None:
    text = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "vocab_size": 64}
    text |= {"num_key_value_heads": 2, "intermediate_size": 64, "cross_attention_layers": [1]}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "pad_token_id": 0}
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_global_layers": 1, "attention_heads": 2}
    vision |= {"intermediate_size": 64, "image_size": 28, "patch_size": 14, "vision_output_dim": 64}
    vision |= {"intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1]]}
    config = transformers.MllamaConfig(text_config=text, vision_config=vision)
    transformers.MllamaForConditionalGeneration(config).save_pretrained(tmp_path)
    (note,) = notes(tmp_path, "AutoModelForCausalLM")
    assert note.startswith("left out, as Mllama")
    assert "vision_model." in note
