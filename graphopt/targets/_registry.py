"""The registries of the installed onnxruntime: its kernels by provider, and types by an operator's schema."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.targets._trial import type_text

__all__ = [
    "NEWEST",
    "kernels_of",
    "knows_operator",
    "node_dtypes",
    "since_version",
    "since_versions",
    "used_parameters",
]

NEWEST = 2**31 - 1
"""How onnxruntime writes that a kernel has no last version."""

Constraints = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class _Schema:
    """Type variable and name of each input and output; a variadic one stands for all that follow it."""

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    variadic: bool


@functools.cache
def _kernels(provider: str) -> Mapping[tuple[str, str], list[tuple[int, int, Constraints]]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found: dict[tuple[str, str], list[tuple[int, int, Constraints]]] = defaultdict(list)
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == provider:
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


def knows_operator(domain: str, op_type: str) -> bool:
    """Whether the installed onnxruntime has a schema of the operator, at any version."""
    return (domain, op_type) in _schemas()


def since_versions(domain: str, op_type: str) -> list[int]:
    """Versions of the domain that brought forms of the operator; none where onnxruntime does not know it."""
    return sorted(_schemas().get((domain, op_type), {}))


def since_version(domain: str, op_type: str, version: int) -> int:
    """The version of the domain that brought the form of the operator in force at `version`."""
    return max((v for v in _schemas().get((domain, op_type), {}) if v <= version), default=version)


def kernels_of(provider: str, domain: str, op_type: str, version: int) -> list[Constraints]:
    """Type constraints of the provider's kernels that onnxruntime would consider.

    A kernel without a last version is for the form it was written for only, not for later ones.
    """
    since = since_version(domain, op_type, version)
    return [
        allowed
        for first, last, allowed in _kernels(provider).get((domain, op_type), ())
        if first == since or (first < since <= last and last != NEWEST)
    ]


def _schema(node: ir.Node, version: int) -> _Schema | None:
    since = since_version(node.domain, node.op_type, version)
    return _schemas().get((node.domain, node.op_type), {}).get(since)


def used_parameters(node: ir.Node, version: int) -> set[str]:
    """Names of the inputs that the node has, of outputs of it that are used, and of its attributes."""
    schema = _schema(node, version)
    found = set(node.attributes)
    if schema is not None:
        found |= {n for (_, n), v in zip(schema.inputs, node.inputs, strict=False) if v is not None}
        outputs = zip(schema.outputs, node.outputs, strict=False)
        found |= {n for (_, n), v in outputs if v.uses() or v.is_graph_output()}
    return found


def node_dtypes(node: ir.Node, version: int) -> dict[str, str]:
    """Types by type variable and, since some kernels are constrained so, by parameter name."""
    schema = _schema(node, version)
    if schema is None or schema.variadic:
        return {}
    found: dict[str, str] = {}
    for parameters, values in ((schema.inputs, node.inputs), (schema.outputs, node.outputs)):
        for (variable, name), value in zip(parameters, values, strict=False):
            kind = type_text(value)
            if kind is not None:
                found |= {variable: kind, name: kind}
    return found
