"""What onnxruntime's CPU provider has kernels for: read off its registries, tried where they do not say."""

from __future__ import annotations

import functools
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from graphopt.targets import Capabilities, Unsupported

from ._integers import computes_in_integers
from ._rules import demands, remark, tried
from ._trial import loads, type_text

_PROVIDER = "CPUExecutionProvider"
_FAST_UNTIL = {"AveragePool": 18}
"""From opset 19 on onnxruntime (1.32) averages by loops of its own, not by MLAS: docs/decisions/opsets.md."""
_NEWEST = 2**31 - 1  # how onnxruntime writes that a kernel has no last version

_Constraints = Mapping[str, Sequence[str]]


class CpuCapabilities(Capabilities):
    """Kernels of the installed onnxruntime's CPU provider."""

    def supports(self, domain: str, op_type: str, version: int, dtypes: Mapping[str, str]) -> bool:
        return any(
            all(kind in allowed.get(variable, (kind,)) for variable, kind in dtypes.items())
            for allowed in _kernels_of(domain, op_type, version)
        )

    def accepts(self, rule: str, *values: int) -> bool:
        return tried(rule, values)

    def computes_in_integers(self, op_type: str) -> bool:
        return computes_in_integers(op_type)

    def fast_until(self, op_type: str) -> int | None:
        return _FAST_UNTIL.get(op_type)

    def unsupported(self, model: ir.Model) -> Sequence[Unsupported]:
        functions = {(f.domain, f.name) for f in model.functions.values()}
        return [
            Unsupported(
                node.name or node.outputs[0].name or "?",
                f"{node.domain or 'ai.onnx'}::{node.op_type}",
                reason,
                node.metadata_props.get("graphopt.provenance", "").partition(" <- ")[0] or None,
            )
            for node in model.graph.all_nodes()
            if (node.domain, node.op_type) not in functions
            if (reason := self._reason(node, model.opset_imports.get(node.domain, 1)))
        ]

    def remarks(self, model: ir.Model) -> Sequence[str]:
        found: dict[str, list[str]] = defaultdict(list)
        for node in model.graph.all_nodes():
            if (text := remark(node)) is not None:
                found[text].append(node.name or node.outputs[0].name or "?")
        return [
            f"{text} (node {names[0]!r}{f' and {len(names) - 1} more' if len(names) > 1 else ''})."
            for text, names in found.items()
        ]

    def _reason(self, node: ir.Node, version: int) -> str | None:
        if (node.domain, node.op_type) == ("", "Constant"):
            return None  # becomes an initializer
        largest = max(map(_bytes, node.outputs), default=0)
        if largest > _memory():
            return f"its result takes {largest:,} bytes, more than the machine has"
        dtypes = _dtypes(node, version)
        if self.supports(node.domain, node.op_type, version, dtypes):
            return next((d.otherwise for d in demands(node) if not tried(d.rule, d.values)), None)
        if not _schemas().get((node.domain, node.op_type)):
            return "onnxruntime knows no such operator"
        if loads(node, version):  # the runtime expands some operators, and widens float16 where it must
            return None
        return _why(node, version, dtypes)


@functools.cache
def _memory() -> int:
    """Bytes of the machine's memory."""
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _bytes(value: ir.Value) -> int:
    """How much a value takes; 0 where that depends on the inputs."""
    if value.shape is None or value.dtype is None or value.dtype == ir.DataType.STRING:
        return 0
    dims = [dim for dim in value.shape if isinstance(dim, int)]
    return int(prod(dims) * value.dtype.itemsize) if len(dims) == len(value.shape) else 0


def _why(node: ir.Node, version: int, dtypes: Mapping[str, str]) -> str:
    kernels = _kernels_of(node.domain, node.op_type, version)
    if not kernels:
        return f"the CPU provider has no kernel for it at version {version} of its domain"
    for variable, kind in dtypes.items():
        allowed = {k for kernel in kernels for k in kernel.get(variable, (kind,))}
        if kind not in allowed:
            return f"the CPU provider has no kernel for {kind}, only for {', '.join(sorted(allowed))}"
    return f"the CPU provider has no kernel for {', '.join(sorted(set(dtypes.values())))} together"


@dataclass(frozen=True)
class _Schema:
    """Type variable and name of each input and output; a variadic one stands for all that follow it."""

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    variadic: bool


@functools.cache
def _kernels() -> Mapping[tuple[str, str], list[tuple[int, int, _Constraints]]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found: dict[tuple[str, str], list[tuple[int, int, _Constraints]]] = defaultdict(list)
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == _PROVIDER:
            first, last = kernel.version_range
            found[kernel.domain, kernel.op_name].append((first, last, kernel.type_constraints))
    return found


@functools.cache
def _schemas() -> Mapping[tuple[str, str], dict[int, _Schema]]:
    """For each operator, by the version of its domain it came with."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found: dict[tuple[str, str], dict[int, _Schema]] = defaultdict(dict)
    for schema in state.get_all_operator_schema():
        parameters = [*schema.inputs, *schema.outputs]
        found[schema.domain, schema.name][schema.since_version] = _Schema(
            tuple((p.typeStr, p.name) for p in schema.inputs),
            tuple((p.typeStr, p.name) for p in schema.outputs),
            any(not p.isHomogeneous for p in parameters),
        )
    return found


def _since(domain: str, op_type: str, version: int) -> int:
    """The version of the domain that brought the form of the operator in force at `version`."""
    return max((v for v in _schemas().get((domain, op_type), {}) if v <= version), default=version)


def _kernels_of(domain: str, op_type: str, version: int) -> list[_Constraints]:
    """Type constraints of the kernels that onnxruntime would consider.

    A kernel without a last version is for the form it was written for only, not for later ones.
    """
    since = _since(domain, op_type, version)
    return [
        allowed
        for first, last, allowed in _kernels().get((domain, op_type), ())
        if first == since or (first < since <= last and last != _NEWEST)
    ]


def _dtypes(node: ir.Node, version: int) -> dict[str, str]:
    """Types by type variable and, since some kernels are constrained so, by parameter name."""
    schema = _schemas().get((node.domain, node.op_type), {}).get(_since(node.domain, node.op_type, version))
    if schema is None or schema.variadic:
        return {}
    found: dict[str, str] = {}
    for parameters, values in ((schema.inputs, node.inputs), (schema.outputs, node.outputs)):
        for (variable, name), value in zip(parameters, values, strict=False):
            kind = type_text(value)
            if kind is not None:
                found |= {variable: kind, name: kind}
    return found
