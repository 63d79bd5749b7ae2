"""A checkpoint whose quantized weights look like plain ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.importers._methods import METHODS, reader_of
from graphopt.importers._stored import Mismatch, Reader, Tensors, Unkept
from graphopt.ir import Expr, FileRange, SafetensorsIndex, Transposed

__all__ = ["Imported", "is_read", "quantized_reader"]

_PLAIN = "Start from the unquantized model: graphopt quantizes it for the target itself."
_AGAIN = "Download the folder again; if it is whole, config.json is of another model than its weights."


def is_read(method: str) -> bool:
    """Whether weights that a tool called `method` quantized are read."""
    return method in METHODS


def quantized_reader(folder: Path, method: str, said: Mapping[str, Any]) -> Reader:
    """How the weights in `folder` are read, which `method` quantized as `said`. Raises `BadInput`."""
    try:
        return reader_of(method, said)
    except Mismatch as error:
        raise BadInput(
            f"{folder}: what it says of its quantization ({method}) is damaged: {error}"
        ) from error
    except Unkept as error:
        raise BadInput(
            f"{folder} holds weights that are already quantized ({method}), and {error}", hint=_PLAIN
        ) from error


class Imported(Tensors):
    """The tensors of `index`, with one float32 `weight` for all that a quantized layer has.

    Each is `graphopt.ir.Blocks` over ranges of the checkpoint. Raises `BadInput` for tensors that are
    missing or not what the configuration says, and for weights that no kernel reads as they are.
    """

    def __init__(self, index: SafetensorsIndex, reader: Reader) -> None:
        self.folder, self.unread = index.folder, index.unread
        self.reader = reader
        layers: dict[str, dict[str, FileRange]] = {}
        for key in sorted(index.keys()):
            layer, _, part = key.rpartition(".")
            if part in reader.parts:
                layers.setdefault(layer, {})[part] = index.expr(key)
        self.weights = {
            f"{layer}.weight": self._weight(layer, parts)
            for layer, parts in layers.items()
            if not reader.marks.isdisjoint(parts)
        }
        taken = {f"{name.removesuffix('weight')}{part}" for name in self.weights for part in reader.parts}
        plain = {key: index.expr(key) for key in sorted(index.keys()) if key not in taken}
        self._exprs = plain | self.weights

    def _weight(self, layer: str, parts: Mapping[str, FileRange]) -> Expr:
        try:
            return self.reader.weight(layer, parts)
        except Mismatch as error:
            raise BadInput(
                f"{self.folder}: layer {layer!r} is not what its configuration says: {error}", hint=_AGAIN
            ) from error
        except Unkept as error:
            raise BadInput(
                f"{self.folder}: layer {layer!r} cannot be kept as it is quantized: {error}", hint=_PLAIN
            ) from error

    def turn(self, key: str) -> None:
        """Let the quantized weight `key` [N, K] be [K, N]."""
        self.weights[key] = self._exprs[key] = Transposed(self.weights[key], (1, 0))
