"""What sentence-transformers' folders say of how a text's vector is made of its tokens', as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.io import read_json

from ._files import module_entries, modules_root

__all__ = ["POOLINGS", "Dense", "Normalize", "Pooling", "SentenceModule", "Unsupported", "sentence_modules"]

POOLINGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Ways to make one vector of several, each with the key that said so before sentence-transformers 5."""
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid")
_SENTENCE = "sentence_embedding"
_WEIGHTS = "model.safetensors"


class Unsupported(Exception):
    """A module, or something that one says, that a graph cannot hold; the text names it."""


@dataclass(frozen=True)
class Pooling:
    """One vector of those of a text's tokens, or several beside each other."""

    modes: tuple[str, ...]


@dataclass(frozen=True)
class Dense:
    """activation(x W^T + b), plus x or x R^T where there is a residual; W float32[out, in]."""

    weight: np.ndarray
    bias: np.ndarray | None
    activation: str
    residual: bool = False
    projection: np.ndarray | None = None


@dataclass(frozen=True)
class Normalize:
    """x over its length."""


SentenceModule = Pooling | Dense | Normalize


def sentence_modules(source: Path) -> list[SentenceModule]:
    """What comes after the transformer, in order: pooling first.

    Raises `Unsupported`, also where `source` has no list of modules.
    """
    root = modules_root(source)
    if root is None:
        raise Unsupported("there is no modules.json")
    found: list[SentenceModule] = []
    for place, entry in enumerate(module_entries(root / "modules.json")):
        kind = str(entry.get("type", "")).rpartition(".")[2]
        if (place == 0) != (kind == "Transformer"):
            raise Unsupported(f"module {place} is {kind or 'nothing'}")
        if place:
            found.append(_module(kind, root / str(entry.get("path", ""))))
    if not found or not isinstance(found[0], Pooling):
        raise Unsupported("the module after the transformer is no pooling")
    return found


def _module(kind: str, folder: Path) -> SentenceModule:
    if kind == "Normalize":
        return Normalize()
    if kind not in ("Pooling", "Dense"):
        raise Unsupported(f"{kind} is none of Pooling, Dense and Normalize")
    config = read_json(folder / "config.json")
    return _pooling(config) if kind == "Pooling" else _dense(config, folder)


def _pooling(config: Mapping[str, Any]) -> Pooling:
    if config.get("include_prompt", True) is not True:
        raise Unsupported("its pooling leaves the prompt out, whose length no input tells")
    asked = config.get("pooling_mode") or [mode for mode, key in POOLINGS.items() if config.get(key)]
    modes = tuple([asked] if isinstance(asked, str) else asked) or ("mean",)
    unknown = [mode for mode in modes if mode not in POOLINGS]
    if unknown:
        raise Unsupported(f"its pooling is {unknown[0]!r}")
    return Pooling(modes)


def _dense(config: Mapping[str, Any], folder: Path) -> Dense:
    from safetensors.numpy import load_file

    activation = str(config.get("activation_function") or "Identity").rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise Unsupported(f"a Dense ends in {activation}")
    names = {config.get("module_input_name", _SENTENCE), config.get("module_output_name") or _SENTENCE}
    if names != {_SENTENCE}:
        raise Unsupported("a Dense works on something else than the text's vector")
    if not (folder / _WEIGHTS).is_file():
        raise Unsupported(f"{folder.name} has no {_WEIGHTS}")
    weights = {name: array.astype(np.float32) for name, array in load_file(folder / _WEIGHTS).items()}
    if "linear.weight" not in weights:
        raise BadInput(f"{folder / _WEIGHTS} has no linear.weight")
    residual = bool(config.get("use_residual"))
    return Dense(
        weights["linear.weight"],
        weights.get("linear.bias"),
        activation,
        residual,
        weights.get("residual.weight") if residual else None,
    )
