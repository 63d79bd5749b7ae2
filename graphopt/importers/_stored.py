"""What a source says of a weight that it quantized, held against the tensors it stores for it."""

from __future__ import annotations

from collections.abc import KeysView, Mapping
from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir

from graphopt.ir import Expr, FileRange

__all__ = ["WHOLE_ROWS", "Mismatch", "Parts", "Reader", "Said", "Tensors", "Unkept"]

Parts = Mapping[str, FileRange]

WHOLE_ROWS = -1
"""The group size of weights with one scale for each row."""


class Mismatch(Exception):
    """Tensors that are not what the configuration says, or not there; the message says which."""


class Unkept(Exception):
    """A weight that no kernel reads as it is; the message says why."""


class Reader(Protocol):
    """How one method's weights are read: a layer's tensors by the last part of their names.

    A layer that has one of `marks` is quantized; `parts` are all that belong to it.
    """

    @property
    def marks(self) -> frozenset[str]: ...

    @property
    def parts(self) -> frozenset[str]: ...

    def weight(self, layer: str, parts: Parts) -> Expr:
        """The weight float32 [N, K] of `layer`. Raises `Mismatch` or `Unkept`."""

    def describe(self) -> str:
        """What the configuration says of most weights."""


@dataclass(frozen=True)
class Said:
    """`bits` a weight, and how many inputs share a scale."""

    bits: int
    group_size: int

    def __str__(self) -> str:
        groups = "a scale for each row" if self.group_size == WHOLE_ROWS else f"groups of {self.group_size}"
        return f"{self.bits} bits, {groups}"

    def group_of(self, width: int) -> int:
        """Inputs of a group, of a layer with `width`."""
        return width if self.group_size == WHOLE_ROWS else self.group_size

    def needed(self, parts: Parts, *names: str) -> list[FileRange]:
        """The tensors called `names`."""
        absent = [name for name in names if name not in parts]
        if absent:
            raise Mismatch(f"it has {', '.join(sorted(parts))} and no {absent[0]}")
        return [parts[name] for name in names]

    def require(self, name: str, stored: FileRange, shape: tuple[int, ...], *dtypes: ir.DataType) -> None:
        """Raise `Mismatch` unless `stored` is of `shape` and, where some are given, one of `dtypes`."""
        if stored.shape != shape:
            raise Mismatch(f"its {name} is {list(stored.shape)}, and with {self} it would be {list(shape)}")
        if dtypes and stored.dtype not in dtypes:
            raise Mismatch(
                f"its {name} is of {stored.dtype.name.lower()} instead of {dtypes[0].name.lower()}"
            )


class Tensors:
    """A checkpoint's tensors by name, as `graphopt.ir.SafetensorsIndex` has them."""

    _exprs: dict[str, Expr]

    def __contains__(self, key: object) -> bool:
        return key in self._exprs

    def __len__(self) -> int:
        return len(self._exprs)

    def keys(self) -> KeysView[str]:
        """Names of all tensors."""
        return self._exprs.keys()

    def expr(self, key: str) -> Expr:
        """The tensor called `key`; `KeyError` where there is none."""
        return self._exprs[key]
