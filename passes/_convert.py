"""onnx's version converter, on a copy without weights, and what it leaves behind put right."""

from __future__ import annotations

from collections.abc import Callable

import onnx.version_converter
import onnx_ir as ir
from onnx.inliner import inline_selected_functions

from graphopt.ir import checker_problems, const_of, from_proto, restore_weights, to_proto
from graphopt.pipeline import Edit

__all__ = ["CannotConvert", "convert", "copied", "expanded", "transplant"]

_ALLOWS_ZERO = 14  # Reshape has `allowzero` from this opset on
_WHOLE = ".whole"


class CannotConvert(Exception):
    """Why a graph cannot be brought to an opset."""


def convert(model: ir.Model, opset: int) -> ir.Model:
    """A copy of `model` at `opset`, with its weights; raises `CannotConvert`.

    Some operators change their meaning without the converter changing the node: Resize and Softmax are
    spelled out before, Scan of opset 8 and the mask of Dropout are refused.
    """
    old = model.opset_imports[""]
    try:
        copy = _converted(model, 10) if old < 10 < opset else copied(model)
        for node in tuple(copy.graph.all_nodes()):
            for operator, since, change in _CHANGES:
                if (node.domain, node.op_type) == ("", operator) and old < since <= opset:
                    change(node, old)
        made = _converted(copy, opset)
        if opset >= _ALLOWS_ZERO:
            _take_whole(made)
    except CannotConvert:
        raise
    except Exception as error:  # the converter raises many kinds
        raise CannotConvert(f"onnx's converter refuses the graph: {' '.join(str(error).split())}") from error
    _tell_apart(made.graph, model.graph, _names(model))
    for problem in checker_problems(made):
        raise CannotConvert(f"onnx's converter leaves an invalid graph: {problem}")
    return made


def copied(model: ir.Model) -> ir.Model:
    """A copy of `model` that shares its weights."""
    made = from_proto(to_proto(model, weights="none"))
    restore_weights(made, model)
    return made


def expanded(model: ir.Model, op_type: str) -> ir.Model:
    """A copy of `model` with ONNX's definition in the place of every node of an operator of its own.

    CastLike, which definitions use, becomes Cast. Raises `CannotConvert`.
    """
    try:
        proto = to_proto(model, weights="none")
        wanted = [("", op_type), ("", "CastLike")]
        made = from_proto(inline_selected_functions(proto, wanted, inline_schema_functions=True))
        restore_weights(made, model)
    except Exception as error:  # the inliner raises many kinds
        raise CannotConvert(f"onnx's inliner refuses the graph: {' '.join(str(error).split())}") from error
    _tell_apart(made.graph, model.graph, _names(model))
    for problem in checker_problems(made):
        raise CannotConvert(f"onnx's inliner leaves an invalid graph: {problem}")
    return made


def _converted(model: ir.Model, opset: int) -> ir.Model:
    made = from_proto(onnx.version_converter.convert_version(to_proto(model, weights="none"), opset))
    restore_weights(made, model)
    return made


def _say_pixels(node: ir.Node, old: int) -> None:
    """Before opset 11, Resize takes pixels from the corner: the last one, or the next where it shrinks.

    Before opset 10 it is called Upsample and never shrinks.
    """
    node.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
    if node.attributes.get_string("mode", "nearest") == "nearest":
        scales = const_of(node.inputs[1]) if old == 10 else None
        if old == 10 and (scales is None or scales.min() < 1 < scales.max()):
            raise CannotConvert("Resize of opset 10 rounds by scales that are not known, or both ways")
        shrinks = scales is not None and scales.min() < 1
        node.attributes.add(ir.AttrString("nearest_mode", "ceil" if shrinks else "floor"))


def _flatten(node: ir.Node, old: int) -> None:
    """Before opset 13, Softmax and its like are over all axes from `axis` on, and now over one.

    The converter does so too, of these, but for Hardmax; not for tensors without elements.
    """
    axis = node.attributes.get_int("axis", 1)
    x = node.inputs[0]
    if x is not None and x.shape is not None and axis in (len(x.shape) - 1, -1):
        return
    shape = ir.node("Shape", [x])
    flat = ir.node("Flatten", [x], {"axis": axis})
    rows = ir.node(node.op_type, flat.outputs, {"axis": 1})
    _replace(node, [shape, flat, rows, ir.node("Reshape", [rows.outputs[0], shape.outputs[0]])])
    shape.outputs[0].name = f"{flat.outputs[0].name}{_WHOLE}"


def _take_whole(made: ir.Model) -> None:
    """A zero in the shape that `_flatten` goes back to is a size."""
    for node in made.graph.all_nodes():
        shape = node.inputs[1] if node.op_type == "Reshape" else None
        if shape is not None and (shape.name or "").endswith(_WHOLE):
            node.attributes.add(ir.AttrInt64("allowzero", 1))


def _refuse_mask(node: ir.Node, old: int) -> None:
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        raise CannotConvert("the mask of Dropout is another from opset 12 on")


def _refuse_scan(node: ir.Node, old: int) -> None:
    raise CannotConvert("Scan goes over batches at opset 8, and over none from opset 9 on")


_CHANGES: tuple[tuple[str, int, Callable[[ir.Node, int], None]], ...] = (
    ("Scan", 9, _refuse_scan),
    ("Resize", 11, _say_pixels),
    ("Dropout", 12, _refuse_mask),
    *((operator, 13, _flatten) for operator in ("Softmax", "LogSoftmax", "Hardmax")),
)


def _replace(node: ir.Node, made: list[ir.Node]) -> None:
    assert node.graph is not None
    names = [v.name for v in node.outputs]
    for number, new in enumerate(made):
        new.outputs[0].name = f"{names[0]}.part{number}"
    last = made[-1]
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], made, node.outputs, last.outputs)
    for value, name in zip(last.outputs, names, strict=True):
        value.name = name


def _names(model: ir.Model) -> set[str]:
    graphs = (model.graph, *model.graph.subgraphs())
    return {value.name or "" for graph in graphs for value in _own(graph)}


def _own(graph: ir.Graph) -> list[ir.Value]:
    made = (value for node in graph for value in node.outputs)
    return [*graph.inputs, *graph.initializers.values(), *made]


def _tell_apart(made: ir.Graph, source: ir.Graph, taken: set[str]) -> None:
    """The converter counts its own values anew in each subgraph: give them names of their own."""
    known = {value.name for value in _own(source)}
    holders = {node.outputs[0].name: node for node in source if node.outputs}
    for node in made:
        for value in node.outputs:
            if value.name and value.name not in known:
                base, number = value.name, 0
                while value.name in taken:
                    number += 1
                    value.name = f"{base}_{number}"
                taken.add(value.name)
        holder = holders.get(node.outputs[0].name) if node.outputs else None
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.GRAPH and holder is not None:
                _tell_apart(attribute.as_graph(), holder.attributes[name].as_graph(), taken)


def transplant(graph: ir.Graph, made: ir.Model, summary: str = "") -> Edit:
    """One edit that puts the nodes of `made` in the place of those of `graph`, on its inputs and weights."""
    new, opset = made.graph, made.opset_imports[""]
    nodes = list(new)
    own = {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
    theirs = (*new.inputs, *new.initializers.values())
    fresh = [value for value in new.initializers.values() if value.name not in own]
    outputs = {value.name: value for value in new.outputs}
    new.outputs.clear()
    for value in theirs:
        if value.name in own:
            for user, index in tuple(value.uses()):
                user.replace_input_with(index, own[value.name])
    for value in fresh:
        del new.initializers[value.name]  # type: ignore[arg-type]
    new.remove(nodes)
    return Edit(
        summary or f"opset {opset}",
        remove=list(graph),
        insert=nodes,
        initializers=fresh,
        replace={old: outputs[old.name] for old in graph.outputs if old.producer() is not None},
        opset=opset,
        tentative=True,
    )
