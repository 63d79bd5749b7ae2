"""What a folder holds in place of a model that can be read: the error that names it, and the next step."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput

__all__ = ["adapter", "conversion", "pointer", "unreadable"]

_POINTER = b"version https://git-lfs.github.com/spec/"
_INDEX = "model.safetensors.index.json"
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_OF_TRAINING = ("training_args.bin", "optimizer.*", "scheduler.*", "rng_state*.pth", "random_states*")
_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.bin")
_OTHERS = {
    "tf_model.h5": "TensorFlow",
    "model.ckpt.index": "TensorFlow",
    "flax_model*.msgpack": "Flax",
    "*.keras": "Keras",
    "*.nemo": "NeMo",
    "*.tflite": "TensorFlow Lite",
    "openvino_model.xml": "OpenVINO",
}


def unreadable(path: Path) -> BadInput | None:
    """The error that says what a file is, or a folder without `model.safetensors` holds; None if unknown."""
    if path.is_file():
        return pointer(path)
    return next((error for look in _LOOKS if (error := look(path)) is not None), None)


def pointer(path: Path) -> BadInput | None:
    """The error for a file that Git LFS has not fetched: it holds where the real one is, and no more."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(_POINTER))
    except OSError:
        return None
    if begins != _POINTER:
        return None
    return BadInput(
        f"{path} is a Git LFS pointer, not the file itself", hint="Fetch it: `git lfs pull` in its folder."
    )


def adapter(folder: Path) -> BadInput | None:
    """The error for an adapter, alone or beside the model that it changes."""
    files = _names(folder, *_ADAPTERS)
    if not files:
        return None
    beside = any((folder / name).exists() for name in ("model.safetensors", _INDEX))
    base = _text(folder / _ADAPTERS[0]).get("base_model_name_or_path")
    home = folder.resolve()
    merge = _merging(home if beside else base or "BASE", home / "adapter" if beside else home)
    if beside:
        return BadInput(
            f"{folder} holds an adapter ({files[0]}) beside a model: it is not clear whether it is meant",
            hint=f"If not, take its files away. If so, move them to {folder / 'adapter'} and merge them with "
            f"the Auto class of the model's task: {merge}",
        )
    return BadInput(
        f"{folder} holds an adapter ({files[0]}) and not the model that it changes ({base or 'of no name'})",
        hint=f"Merge them, with the Auto class of the model's task, and copy the tokenizer's files: {merge}",
    )


def _merging(base: object, folder: Path) -> str:
    """The command that writes the model `base` as the adapter in `folder` changes it."""
    code = (
        "import peft, transformers; "
        f"base = transformers.AutoModelForCausalLM.from_pretrained({str(base)!r}); "
        f"peft.PeftModel.from_pretrained(base, {str(folder)!r}).merge_and_unload()"
        f".save_pretrained({str(folder) + '-merged'!r})"
    )
    return f"python -c {shlex.quote(code)}"


def conversion(folder: Path, pattern: str) -> str:
    """The command that rewrites a pickled checkpoint, unpickling nothing but tensors."""
    source, target = str(folder.resolve() / pattern), str(folder.resolve() / "model.safetensors")
    code = (
        "import glob, torch; from safetensors.torch import save_file; "
        f"files = sorted(glob.glob({source!r})); "
        "parts = [torch.load(f, map_location='cpu', weights_only=True) for f in files]; "
        "save_file({k: v.clone().contiguous() for p in parts for k, v in p.get('state_dict', p).items()}, "
        f"{target!r}, {{'format': 'pt'}})"
    )
    return f"python -c {shlex.quote(code)}"


def _pointers(folder: Path) -> BadInput | None:
    files = (folder / name for name in _names(folder, "*.bin", "*.gguf", "*.onnx", "*.safetensors", "*.pth"))
    return next((error for file in files if (error := pointer(file)) is not None), None)


def _gguf(folder: Path) -> BadInput | None:
    files = _names(folder, "*.gguf")
    if not files:
        return None
    return BadInput(
        f"{folder / files[0]} is in llama.cpp's format", hint=f"Name the file itself: {folder / files[0]}."
    )


def _mistral(folder: Path) -> BadInput | None:
    files = _names(folder, "consolidated*.safetensors", "consolidated*.pth")
    if not files:
        return None
    return BadInput(
        f"{folder} holds weights only in the layout of the makers' own code ({files[0]}), which is not read",
        hint="Take the model in transformers' layout (config.json and model.safetensors): its repository on "
        "the Hub may hold both, and transformers' source has convert_*_weights_to_hf.py for this one.",
    )


def _pipeline(folder: Path) -> BadInput | None:
    if not (folder / "model_index.json").is_file():
        return None
    return BadInput(
        f"{folder} is a pipeline of diffusers, several models together",
        hint="Name one that transformers knows: "
        + (", ".join(str(folder / name) for name in _models_below(folder)) or "none is here")
        + ". Of the others, name an .onnx file.",
    )


def _pickles(folder: Path) -> BadInput | None:
    for pattern in _PICKLED:
        files = sorted({*_names(folder, pattern)} - {*_names(folder, *_OF_TRAINING)})
        if files:
            return BadInput(
                f"{folder} has only a pickled checkpoint ({files[0]}), which can run code when it is opened",
                hint=f"Convert it: {conversion(folder, pattern)}",
            )
    return None


def _of_diffusers(folder: Path) -> BadInput | None:
    name = _text(folder / "config.json").get("_class_name")
    if not isinstance(name, str):
        return None
    return BadInput(
        f"{folder} holds a model of diffusers ({name}), which transformers does not know",
        hint="Name an .onnx file of it.",
    )


def _safetensors(folder: Path) -> BadInput | None:
    files = _names(folder, "*.safetensors")
    if not files or (folder / "model.safetensors").exists() or (folder / _INDEX).exists():
        return None
    shards = [name for name in files if "-of-" in name]
    return BadInput(
        f"{folder} has {files[0]}, but no model.safetensors and no model.safetensors.index.json",
        hint="The index that says what is in each shard is missing: download it again."
        if shards
        else "If that file is the whole model, call it model.safetensors.",
    )


def _only_graphs(folder: Path) -> BadInput | None:
    return None if (folder / "config.json").is_file() else _graphs(folder)


def _graphs(folder: Path) -> BadInput | None:
    files = _names(folder, "*.onnx") + [f"onnx/{name}" for name in _names(folder / "onnx", "*.onnx")]
    if not files:
        return None
    what = "no config.json" if not (folder / "config.json").is_file() else "no weights for PyTorch"
    return BadInput(f"{folder} has {what}", hint=f"It holds ONNX models: name one, {folder / files[0]}.")


def _below(folder: Path) -> BadInput | None:
    folders = _models_below(folder)
    if not folders:
        return None
    return BadInput(
        f"{folder} holds a model in a folder of its own ({', '.join(folders)})",
        hint=f"Name that one: {folder / folders[0]}."
        + (" Its tokenizer may lie beside it." if not _names(folder / folders[0], "tokenizer*") else ""),
    )


def _other_libraries(folder: Path) -> BadInput | None:
    for pattern, library in _OTHERS.items():
        files = _names(folder, pattern)
        if files:
            return BadInput(
                f"{folder} holds weights only for {library} ({files[0]})",
                hint="Take model.safetensors of the same model, or give an .onnx file of it.",
            )
    return None


_LOOKS: tuple[Callable[[Path], BadInput | None], ...] = (
    _pointers,
    adapter,
    _gguf,
    _mistral,
    _pipeline,
    _of_diffusers,
    _only_graphs,
    _pickles,
    _safetensors,
    _graphs,
    _below,
    _other_libraries,
)


def _names(folder: Path, *patterns: str) -> list[str]:
    return sorted({path.name for pattern in patterns for path in folder.glob(pattern)})


def _models_below(folder: Path) -> list[str]:
    def known(path: Path) -> Iterator[str]:
        if isinstance(_text(path).get("model_type"), str) or "architectures" in _text(path):
            yield path.parent.name

    return sorted(name for path in folder.glob("*/config.json") for name in known(path))


def _text(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, or nothing: what cannot be read says nothing about what is there."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
