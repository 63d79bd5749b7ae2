"""Where a model comes from: a path, an embedded model, or the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.io import nearest, read_json
from graphopt.ir import unreadable
from graphopt.plugins import registry

__all__ = ["FOLDER", "GGUF", "ONNX", "Source", "resolve_source"]

FOLDER = "folder"
"""A folder of Hugging Face: config.json beside safetensors."""
GGUF = "gguf"
"""A .gguf file of llama.cpp's."""
ONNX = "onnx"
"""An .onnx file, its weights inside or beside it."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "*.spm", "*.tiktoken"]
_HUB_FILES += ["merges.txt", "vocab.txt", "dict.txt", "bpe.codes", "*.tokenizer"]
_CODE_FILES = ["*.py"]


@dataclass(frozen=True)
class Source:
    """A model on this machine: `name` is what the user called it, `path` a folder or a file.

    `kind` is the form that the model has there, `FOLDER` or `ONNX` where `resolve_source` found it.
    `export_parts` refuses a kind that it does not know, and quantized weights that no kernel reads as they
    are, unless they may be rounded again: `requantize`.
    """

    name: str
    path: Path
    kind: str
    requantize: bool = False


def resolve_source(text: str | Path, *, trust_remote_code: bool = False) -> Source:
    """Find the model that `text` names: an existing path, else an embedded model, else a Hub id (downloaded).

    Raises `BadInput` for what does not exist or is not a model, `EnvironmentProblem` where the Hub would be
    needed and cannot be reached.
    """
    name = str(text)
    path = Path(text).expanduser()
    if path.exists():
        return _local(name, path)
    embedded = registry.embedded_models()
    if name in embedded:
        return Source(name, embedded[name], FOLDER)
    near = nearest(name, embedded)
    if (
        isinstance(text, Path)
        or not _HUB_ID.fullmatch(name)
        or path.suffix == ".onnx"
        or (near and "/" not in name)
    ):
        raise BadInput(
            f"{name} does not exist",
            hint=f"Did you mean the embedded model {near!r}?"
            if near
            else f"A source is a path, an embedded model ({', '.join(embedded)}) or a Hub id (owner/model).",
        )
    return Source(name, _download(name, trust_remote_code), FOLDER)


def _local(name: str, path: Path) -> Source:
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise unreadable(path) or BadInput(
                f"{path} has no config.json",
                hint="A Hugging Face model folder holds config.json and model.safetensors.",
            )
        return Source(name, path, FOLDER)
    known = unreadable(path)
    if known is not None:
        raise known
    if path.suffix == ".gguf":
        return Source(name, path, GGUF)
    if path.suffix != ".onnx":
        beside = (path.parent / "config.json").is_file()
        raise BadInput(
            f"{path} is neither a folder nor an .onnx or .gguf file",
            hint=f"Name the folder it is in: {path.parent}." if beside else None,
        )
    return Source(name, path, ONNX)


def read_config_json(folder: Path) -> dict[str, Any]:
    """The raw `config.json` of a folder; `BadInput` if it is not a JSON object."""
    return read_json(folder / "config.json")


def _download(name: str, trust_remote_code: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
        )
    except ImportError as error:
        raise EnvironmentProblem(
            f"{name} does not exist here, and downloading it needs huggingface_hub",
            hint="pip install 'graphopt[export]'",
        ) from error
    patterns = _HUB_FILES + (_CODE_FILES if trust_remote_code else [])
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
    except GatedRepoError as error:
        raise EnvironmentProblem(
            f"{name} needs an access token with permission for it",
            hint=f"Ask for access at https://huggingface.co/{name}, then `hf auth login`.",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BadInput(
            f"{name} does not exist here, and the Hub has no such model that you may read"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise EnvironmentProblem(
            f"{name} does not exist here, and the Hugging Face Hub cannot be reached",
            hint="Check the path and the network; a model downloaded once is found without it.",
        ) from error
    if not (folder / "config.json").is_file():
        raise unreadable(folder) or BadInput(
            f"{name} on the Hub has no config.json: it is not a transformers model"
        )
    return folder
