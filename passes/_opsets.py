"""Opsets at which the nodes of a graph mean the same, and what a target leaves to others at each."""

from __future__ import annotations

import functools
from typing import NamedTuple

import onnx
import onnx_ir as ir

from graphopt.ir import infer_types
from graphopt.pipeline import Context
from graphopt.targets import Target, Unsupported

from ._convert import copied

__all__ = ["OLDEST", "Left", "at_opset", "is_another", "left_anyway", "left_at", "without_kernel"]

OLDEST = 18


def at_opset(model: ir.Model, opset: int) -> ir.Model:
    """A copy of `model` that is declared at `opset`, its nodes as they are."""
    made = copied(model)
    made.opset_imports[""] = opset
    infer_types(made)
    return made


class Left(NamedTuple):
    """How many nodes another provider than the target's runs: of floats, and of all; fewer is less."""

    floats: int
    all: int


def left_at(context: Context, model: ir.Model) -> Left:
    """What another provider than the target's runs of `model`."""
    return _counted(_left(context, model), model)


def left_anyway(context: Context, model: ir.Model) -> Left:
    """What another provider runs at whatever older opset at which nodes of `model` mean the same."""
    left = _left(context, model)
    now = model.opset_imports[""]
    made = copied(model) if left else model
    for opset in range(now - 1, OLDEST - 1, -1):
        if not left:
            break
        made.opset_imports[""] = opset
        nodes = [node for node in made.graph.all_nodes() if not node.domain]
        others = {_name(node) for node in nodes if is_another(node.op_type, now, opset)}
        left &= _left(context, made) | others
    return _counted(left, model)


def _left(context: Context, model: ir.Model) -> set[str]:
    if context.target is None:
        return set()
    return {found.node for found in without_kernel(context.target, model)}


def without_kernel(target: Target, model: ir.Model) -> list[Unsupported]:
    """What the target leaves to another provider, and where there is none, what it refuses."""
    capabilities = target.capabilities()
    return [*capabilities.left_to_others(model), *capabilities.unsupported(model)]


def _counted(left: set[str], model: ir.Model) -> Left:
    nodes = [node for node in model.graph.all_nodes() if _name(node) in left]
    types = ((value.dtype for value in node.outputs if value.dtype is not None) for node in nodes)
    return Left(sum(any(t.is_floating_point() for t in found) for found in types), len(nodes))


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or "?"


@functools.cache
def is_another(op_type: str, now: int, opset: int) -> bool:
    """Whether ONNX's operator has other attributes, inputs or outputs at `opset` than `now`, or none."""
    return _form(op_type, now) != _form(op_type, opset)


@functools.cache
def _form(op_type: str, opset: int) -> object:
    """What the schema in force at `opset` says but for types; None where ONNX has none."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    attributes = {
        name: (a.type, a.required, a.default_value.SerializeToString(deterministic=True))
        for name, a in schema.attributes.items()
    }
    inputs = [(p.name, p.option) for p in schema.inputs]
    return attributes, inputs, [(p.name, p.option) for p in schema.outputs]
