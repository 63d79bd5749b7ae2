"""Which tool quantized a checkpoint, as its configuration says, and how that tool's weights are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from graphopt.importers._awq import AWQ_PARTS, awq_weight
from graphopt.importers._compressed_config import reader_of_compressed
from graphopt.importers._gptq import GPTQ_PARTS, gptq_weight
from graphopt.importers._stored import Mismatch, Parts, Reader, Said, Unkept
from graphopt.ir import Expr

__all__ = ["METHODS", "reader_of"]

_MARKS = frozenset({"qweight", "qzeros"})


class _Layer(BaseModel):
    """What may be said of some layers only."""

    bits: int | None = None
    group_size: int | None = None


class _Gptq(BaseModel):
    """The part of GPTQ's configuration that says how weights are stored."""

    bits: int
    group_size: int
    checkpoint_format: str = Field("gptq", validation_alias=AliasChoices("checkpoint_format", "format"))
    pack_dtype: str = "int32"
    dynamic: dict[str, _Layer] | None = None


class _Awq(BaseModel):
    """The part of AWQ's configuration that says how weights are stored."""

    bits: int = Field(validation_alias=AliasChoices("bits", "w_bit"))
    group_size: int = Field(validation_alias=AliasChoices("group_size", "q_group_size"))
    version: str = Field("gemm", validation_alias=AliasChoices("version", "format"))


class _AutoRound(BaseModel):
    """The part of AutoRound's configuration that says how weights are stored."""

    bits: int
    group_size: int
    sym: bool = True
    data_type: str = "int"
    packing_format: str = "auto_round:auto_gptq"
    extra_config: dict[str, _Layer] | None = None


@dataclass(frozen=True)
class _GptqReader:
    method: str
    base: Said
    less_one: bool
    layers: Mapping[str, _Layer]
    search: bool = False
    marks: frozenset[str] = _MARKS
    parts: frozenset[str] = GPTQ_PARTS

    def weight(self, layer: str, parts: Parts) -> Expr:
        return gptq_weight(parts, _said(self.base, self.layers, layer, self.search), less_one=self.less_one)

    def describe(self) -> str:
        return f"{self.method}: {self.base}"


@dataclass(frozen=True)
class _AwqReader:
    method: str
    base: Said
    layers: Mapping[str, _Layer]
    marks: frozenset[str] = _MARKS
    parts: frozenset[str] = AWQ_PARTS

    def weight(self, layer: str, parts: Parts) -> Expr:
        return awq_weight(parts, _said(self.base, self.layers, layer, True))

    def describe(self) -> str:
        return f"{self.method}: {self.base}"


def _said(base: Said, layers: Mapping[str, _Layer], layer: str, search: bool) -> Said:
    """What holds for `layer`: patterns are regular expressions, of which the first that matches counts."""
    own = layers.get(layer)
    if own is None:
        matches = re.search if search else re.match
        patterns = (
            (key.removeprefix("+:"), said) for key, said in layers.items() if not key.startswith("-:")
        )
        own = next((said for pattern, said in patterns if matches(pattern, layer)), _Layer())
    return Said(own.bits or base.bits, own.group_size or base.group_size)


def _gptq(said: Mapping[str, Any]) -> Reader:
    config = _Gptq.model_validate(said)
    if config.checkpoint_format not in ("gptq", "gptq_v2") or "int32" not in config.pack_dtype:
        raise Unkept(f"they are in the format {config.checkpoint_format!r}, words of {config.pack_dtype}")
    base = Said(config.bits, config.group_size)
    less_one = config.checkpoint_format == "gptq"
    return _GptqReader(config.checkpoint_format, base, less_one, config.dynamic or {})


def _awq(said: Mapping[str, Any]) -> Reader:
    config = _Awq.model_validate(said)
    if config.version.lower() != "gemm":
        raise Unkept(f"they are in the format {config.version!r}, of which only 'gemm' is read")
    return _AwqReader("awq", Said(config.bits, config.group_size), {})


def _auto_round(said: Mapping[str, Any]) -> Reader:
    config = _AutoRound.model_validate(said)
    packing = config.packing_format
    if config.data_type != "int" or not packing.startswith("auto_round"):
        raise Unkept(f"they are {config.data_type} in the packing {packing!r}")
    base, layers = Said(config.bits, config.group_size), config.extra_config or {}
    if "awq" in packing:
        return _AwqReader("auto-round", base, layers)
    # Where its name has "gptq" in it, zero points are stored less one; but not with "gptqmodel".
    less_one = "gptq" in packing and "gptqmodel" not in packing
    return _GptqReader("auto-round", base, less_one, layers, search=True)


METHODS = {
    "gptq": _gptq,
    "awq": _awq,
    "auto-round": _auto_round,
    "intel/auto-round": _auto_round,
    "compressed-tensors": reader_of_compressed,
}
"""Methods by the `quant_method` of config.json."""


def reader_of(method: str, said: Mapping[str, Any]) -> Reader:
    """How weights of `method`, one of `METHODS`, are read, `said` being its configuration.

    Raises `Mismatch` for one that is damaged, `Unkept` for one in a form that is not read.
    """
    try:
        return METHODS[method](said)
    except ValidationError as error:
        first = error.errors()[0]
        raise Mismatch(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
