"""A target as data: what its TOML file says."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graphopt.errors import BadInput
from graphopt.io import read_toml

__all__ = ["Description", "OperatorTables", "Sizes", "Wheels"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wheels(_Data):
    """Which distributions bring the runtime.

    `needs` are pip's requirements; of `instead_of` none may be installed beside them, because both bring the
    same files. `unfit` are distributions that may not be installed and are not used for the target, with why.
    `module` is what a plugin's wheel is imported as: it says where the provider's library lies.
    `interpreter` are requirements, pinned, that go into a Python of their own, because they cannot be beside
    graphopt's (`ForeignTarget`). `systems` are `sys.platform` and `platform.machine()` as "linux-x86_64",
    empty for any.
    """

    needs: tuple[str, ...] = ("onnxruntime",)
    instead_of: tuple[str, ...] = ()
    unfit: Mapping[str, str] = Field(default_factory=dict)
    module: str | None = None
    interpreter: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()


class Sizes(_Data):
    """Numbers that divide by `multiple` and are at most `most`."""

    multiple: int = 1
    most: int | None = None

    def take(self, values: Iterable[int]) -> bool:
        return all(v % self.multiple == 0 and (self.most is None or v <= self.most) for v in values)


class OperatorTables(_Data):
    """What there are kernels for, by domain ("ai.onnx") and operator, as `KernelForm` reads it.

    `source` says where that stands or what was asked for it, of which `version`, and on which `date`. `types`
    are names for sets of element types, which stand for these in the forms. `rules` are what
    `Capabilities.accepts` answers: yes or no, all combinations of values that are taken, or what each of the
    values has to be. `refused` are inputs, outputs and attributes that no kernel of an operator takes.
    """

    source: str
    version: str
    date: datetime.date
    types: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    rules: Mapping[str, bool | Sizes | tuple[tuple[int, ...], ...]] = Field(default_factory=dict)
    refused: Mapping[str, Mapping[str, tuple[str, ...]]] = Field(default_factory=dict)
    domains: Mapping[str, Mapping[str, tuple[str, ...]]]


class Description(_Data):
    """What `targets/NAME.toml` says.

    `title` is one line. `last_run` says when, and with which versions, packages last ran on the target, or
    "never". `options` are the provider's, `session` entries of a session's configuration. `lowering` are the
    passes that stand for `@lower`, `lowering_options` what is set of them. `tune` are options of the provider
    with values that `graphopt tune` tries. `beside` are providers that are asked next for what the provider
    leaves. `fallback`: whether what is left then runs on onnxruntime's CPU provider. `fixed_sizes`: graphs
    are compiled for one size of each dimension, which `--dim` says. `integers` are operators that are
    computed in int8 between DequantizeLinear and QuantizeLinear; with `static_scales` by scales alone that
    are known before a run. Without `packed_projections` queries, keys and values of models without a cache
    are three products. `io` is what callers have to know, in words. `hardware` are facts for
    planning, with their units in the names.
    """

    title: str
    provider: str
    device: Literal["cpu", "gpu", "npu"] = "cpu"
    last_run: str
    recipe: str | None = None
    wheels: Wheels = Wheels()
    needs_device: str | None = None
    options: Mapping[str, str] = Field(default_factory=dict)
    session: Mapping[str, str] = Field(default_factory=dict)
    tune: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    lowering: tuple[str, ...] = ()
    lowering_options: Mapping[str, Mapping[str, str | int | float | bool]] = Field(default_factory=dict)
    beside: tuple[str, ...] = ()
    fallback: bool = True
    fixed_sizes: bool = False
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtypes: tuple[str, ...] = ("float32",)
    signed_activations: bool = False
    integers: tuple[str, ...] = ()
    static_scales: bool = False
    packed_projections: bool = True
    io: Mapping[str, str] = Field(default_factory=dict)
    hardware: Mapping[str, str | float] = Field(default_factory=dict)
    operators: OperatorTables | None = None

    @classmethod
    def read(cls, path: Path) -> Description:
        """The description in a TOML file. `BadInput` names the key that is wrong or missing."""
        try:
            return cls.model_validate(read_toml(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(f"{path}: {where}: {first['msg']}") from error
