"""What compressed-tensors' configuration says: groups of layers, each with a form of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from graphopt.importers._compressed import COMPRESSED_PARTS, float4_weight, int8_weight, packed_weight
from graphopt.importers._stored import WHOLE_ROWS, Mismatch, Parts, Reader, Said, Unkept
from graphopt.ir import Expr

__all__ = ["reader_of_compressed"]

_PACKED, _FLOAT4 = "pack-quantized", "nvfp4-pack-quantized"
_IN_INT8 = ("int-quantized", "naive-quantized")
_BY_ROW = ("channel", "tensor")


class _Weights(BaseModel):
    num_bits: int
    type: str = "int"
    strategy: str | None = None
    group_size: int | None = None
    symmetric: bool = True


class _Group(BaseModel):
    targets: list[str]
    weights: _Weights | None = None
    format: str | None = None


class _Compressed(BaseModel):
    config_groups: dict[str, _Group]
    format: str


@dataclass(frozen=True)
class _CompressedReader:
    config: _Compressed
    method: str = "compressed-tensors"
    marks: frozenset[str] = frozenset({"weight_packed", "weight_scale"})
    parts: frozenset[str] = COMPRESSED_PARTS | {"weight"}

    def weight(self, layer: str, parts: Parts) -> Expr:
        group = self._group(layer)
        weights, form = group.weights, group.format or self.config.format
        if weights is None:
            raise Mismatch("its configuration says nothing of its weights")
        if weights.strategy not in (*_BY_ROW, "group", "tensor_group", None):
            raise Unkept(f"its scales are for each {weights.strategy}, which no kernel has")
        size = weights.group_size or WHOLE_ROWS
        said = Said(weights.num_bits, WHOLE_ROWS if weights.strategy in _BY_ROW else size)
        if form == _FLOAT4:
            return float4_weight(parts, said)
        if weights.type == "int" and form == _PACKED:
            return packed_weight(parts, said, symmetric=weights.symmetric)
        if weights.type == "int" and form in _IN_INT8:
            return int8_weight(parts, said, symmetric=weights.symmetric)
        raise Unkept(f"it is {weights.type} of {weights.num_bits} bits in the format {form!r}")

    def _group(self, layer: str) -> _Group:
        """The one that names `layer`, else the one that names the class Linear, which layers are of."""
        groups = list(self.config.config_groups.values())
        for group in groups:
            if any(_names(target, layer) for target in group.targets):
                return group
        others = [group for group in groups if any(_is_class(target) for target in group.targets)]
        if len(others) != 1:
            raise Mismatch(f"{len(others)} groups of its configuration are for it")
        return others[0]

    def describe(self) -> str:
        forms = {
            f"{g.format or self.config.format}, {g.weights.num_bits} bits"
            for g in self.config.config_groups.values()
            if g.weights is not None
        }
        return f"{self.method}: {'; '.join(sorted(forms))}"


def _names(target: str, layer: str) -> bool:
    pattern = target.removeprefix("re:")
    return re.match(pattern, layer) is not None if pattern != target else target == layer


def _is_class(target: str) -> bool:
    return not target.startswith("re:") and "." not in target


def reader_of_compressed(said: Mapping[str, Any]) -> Reader:
    """How weights are read of which `said` is the configuration. Raises `Unkept`, `ValidationError`."""
    config = _Compressed.model_validate(said)
    forms = {group.format or config.format for group in config.config_groups.values()}
    unread = forms - {_PACKED, _FLOAT4, *_IN_INT8}
    if unread:
        raise Unkept(f"they are in the format {sorted(unread)[0]!r}")
    sparse = said.get("sparsity_config")
    if isinstance(sparse, dict) and sparse.get("format", "dense") != "dense":
        raise Unkept(f"they are sparse ({sparse['format']})")
    return _CompressedReader(config)
