"""Checks the structural claims that edits make about themselves, before they are applied."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir import attribute_proto, is_random, same_content
from graphopt.pipeline._edit import Edit, Proof

__all__ = ["proof_holds"]


def proof_holds(edit: Edit, model: ir.Model) -> bool:
    """Whether the graph of `model` bears out `edit.proof`."""
    match edit.proof:
        case None:
            return True
        case Proof.UNUSED:
            return _unused(edit)
        case Proof.DUPLICATE:
            return all(_duplicate(old, new, model) for old, new in edit.replace.items())
        case Proof.SAME_WEIGHT:
            return not edit.remove and all(_same_weight(old, new) for old, new in edit.replace.items())
        case Proof.PASS_THROUGH:
            return _pass_through(edit)


def _unused(edit: Edit) -> bool:
    removed = set(edit.remove)
    values = [output for node in edit.remove for output in node.outputs] + list(edit.drop_initializers)
    return not edit.replace and all(
        not value.is_graph_output() and all(user in removed for user, _ in value.uses()) for value in values
    )


def _duplicate(old: ir.Value, new: ir.Value, model: ir.Model) -> bool:
    a, b = old.producer(), new.producer()
    if a is None or b is None or a is b or old.index() != new.index():
        return False
    return (
        a.op_identifier() == b.op_identifier()
        and not is_random(a, model)
        and len(a.outputs) == len(b.outputs)
        and len(a.inputs) == len(b.inputs)
        and all(_same_input(x, y) for x, y in zip(a.inputs, b.inputs, strict=True))
        and _same_attributes(a, b)
    )


def _same_input(x: ir.Value | None, y: ir.Value | None) -> bool:
    return x is y or (x is not None and y is not None and _same_weight(x, y))


def _same_attributes(a: ir.Node, b: ir.Node) -> bool:
    if a.attributes.keys() != b.attributes.keys():
        return False
    for name, attribute in a.attributes.items():
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return False
        other = b.attributes[name]
        if attribute.type != other.type or attribute_proto(attribute) != attribute_proto(other):
            return False
    return True


def _same_weight(x: ir.Value, y: ir.Value) -> bool:
    a, b = x.const_value, y.const_value
    if a is None or b is None or not (x.is_initializer() and y.is_initializer()):
        return False
    if x.is_graph_input() or y.is_graph_input() or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a is b or same_content(a, b)


def _pass_through(edit: Edit) -> bool:
    return not edit.insert and all(
        (node := old.producer()) is not None and node.op_type == "Identity" and node.inputs[0] is new
        for old, new in edit.replace.items()
    )
