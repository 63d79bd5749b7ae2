"""What a folder holds in place of a model that can be read is named, and so is the next step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from graphopt.errors import BadInput
from graphopt.ir import SafetensorsIndex, unreadable

CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
ADAPTER = json.dumps({"base_model_name_or_path": "someone/base", "peft_type": "LORA"})
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"


def write(folder: Path, **texts: str) -> Path:
    """`folder` with these files in it; `__` in a name stands for a dot, `___` for a folder."""
    for name, text in texts.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "found", "step"),
    [
        (
            {"adapter_config__json": ADAPTER},
            "an adapter .adapter_config.json. .*someone/base",
            "merge_and_unload",
        ),
        ({"m__Q4_K__gguf": "GGUF"}, "m.Q4_K.gguf is in llama.cpp's format", "Name the file itself"),
        ({"config__json": CONFIG, "consolidated__safetensors": ""}, "makers' own code .consolidated", "Hub"),
        (
            {"params__json": "{}", "consolidated__00__pth": "", "tokenizer__model": ""},
            "makers' own code .consolidated.00.pth",
            "convert_",
        ),
        (
            {"0_Transformer___config__json": CONFIG, "modules__json": "[]"},
            "own .0_Transformer",
            "0_Transformer",
        ),
        (
            {"model_index__json": "{}", "text_encoder___config__json": CONFIG, "unet___config__json": "{}"},
            "pipeline of diffusers",
            r"Name one that transformers knows: \S*text_encoder\.",
        ),
        (
            {"config__json": CONFIG, "model-00001-of-00002__safetensors": ""},
            "has model-00001-of-0",
            "index .*download",
        ),
        (
            {"config__json": CONFIG, "open_clip_model__safetensors": ""},
            "has open_clip_model",
            "call it model",
        ),
        ({"config__json": CONFIG, "onnx___model__onnx": ""}, "no weights for PyTorch", "onnx/model.onnx"),
        ({"net__onnx": "", "net__pt": ""}, "no config.json", "name one, .*net.onnx"),
        (
            {"config__json": CONFIG, "tf_model__h5": ""},
            "only for TensorFlow .tf_model.h5",
            "model.safetensors",
        ),
        ({"config__json": CONFIG, "flax_model__msgpack": ""}, "only for Flax", "model.safetensors"),
        (
            {"config__json": CONFIG, "pytorch_model__bin": POINTER},
            "pytorch_model.bin is a Git LFS",
            "git lfs pull",
        ),
        (
            {"config__json": '{"_class_name": "UNet2DConditionModel"}', "d__safetensors": ""},
            "a model of diffusers .UNet2DConditionModel",
            r"Name an \.onnx",
        ),
        ({"net__onnx": POINTER}, "net.onnx is a Git LFS pointer", "git lfs pull"),
    ],
)
def test_what_is_there_is_named_with_the_next_step(
    tmp_path: Path, files: dict[str, str], found: str, step: str
) -> None:
    error = unreadable(write(tmp_path, **files))

    assert error is not None
    assert (error.exit_code, Path(found).name != "") == (2, True)
    with pytest.raises(BadInput, match=rf"{found}(.|\n)*{step}"):
        raise error


def test_the_same_is_said_of_a_folder_that_has_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"llama\.cpp's format"):
        SafetensorsIndex(write(tmp_path, config__json=CONFIG, m__gguf="GGUF"))


def test_of_what_is_not_known_nothing_is_said(tmp_path: Path) -> None:
    assert unreadable(write(tmp_path, README__md="hello", data___x__txt="")) is None
    assert unreadable(write(tmp_path, training_args__bin="", optimizer__pt="")) is None


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "model.safetensors", **tensors: torch.Tensor) -> Path:
        save_file(tensors or {"a": torch.ones(2)}, tmp_path / name)
        return tmp_path

    return make


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_beside_a_model_is_not_passed_over(model: Callable[..., Path], name: str) -> None:
    folder = model()
    (folder / name).write_text("{}")
    with pytest.raises(BadInput, match=rf"an adapter .{name}. beside a model(.|\n)*take its files away"):
        SafetensorsIndex(folder)


def test_weights_that_were_not_fetched(tmp_path: Path) -> None:
    write(tmp_path, model__safetensors=POINTER)
    with pytest.raises(BadInput, match=r"model\.safetensors is a Git LFS pointer"):
        SafetensorsIndex(tmp_path)


def index_of(folder: Path, **shards: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def test_a_single_file_that_lacks_what_the_index_beside_it_lists(model: Callable[..., Path]) -> None:
    folder = model(a=torch.ones(2))
    index_of(folder, a="model-1.safetensors", b="model-2.safetensors")
    with pytest.raises(BadInput, match=r"model\.safetensors lacks 1 tensors .*'b' first"):
        SafetensorsIndex(folder)


def test_shards_with_different_copies_of_a_tensor(model: Callable[..., Path]) -> None:
    model("model-1.safetensors", a=torch.ones(2), b=torch.ones(1))
    folder = model("model-2.safetensors", a=torch.zeros(2))
    index_of(folder, a="model-1.safetensors", b="model-2.safetensors")
    with pytest.raises(BadInput, match=r"different tensors called 'a'"):
        SafetensorsIndex(folder)


def test_a_tensor_that_the_index_lists_for_another_shard(model: Callable[..., Path]) -> None:
    model("model-1.safetensors", a=torch.ones(2))
    folder = model("model-2.safetensors", b=torch.zeros(2))
    index_of(folder, a="model-2.safetensors", b="model-2.safetensors")
    with pytest.raises(BadInput, match=r"model-2\.safetensors has no tensor 'a'"):
        SafetensorsIndex(folder)


def test_files_that_are_not_read_are_listed(model: Callable[..., Path]) -> None:
    model("model.fp16.safetensors")
    model("consolidated.safetensors")
    assert SafetensorsIndex(model()).unread == ["consolidated.safetensors", "model.fp16.safetensors"]
