"""Which interpolations between rounded pictures our kernel serves, and what it joins to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._known import Known
from ._tables import Chain, tables
from ._uses import Uses
from ._window import become_ours, describe, says

if TYPE_CHECKING:
    import onnx

__all__ = ["hand_over_enlargements"]

_PIXELS = (b"half_pixel", b"pytorch_half_pixel")
"""One and the same where nothing becomes smaller."""
_PLAIN = {
    "mode",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "extrapolation_value",
    "keep_aspect_ratio_policy",
    "nearest_mode",
}
"""What a Resize may say of itself."""
_OF_TWO = 8
"""Inputs of a QLinearConcat of two: scale and zero point, then each with its own."""


@dataclass(frozen=True)
class _Enlargement:
    """Nodes of which the last becomes ours; `beside` is joined to it, as `looked_up` makes it, if at all."""

    nodes: list[onnx.NodeProto]
    factors: tuple[float, float]
    beside: str = ""
    beside_first: bool = False
    looked_up: Chain | None = None


def hand_over_enlargements(graph: onnx.GraphProto) -> None:
    """Hand rounded pictures that are enlarged in floats and rounded again to our kernel, in place.

    Channels are last; a concatenation with one other value behind it is part of the kernel. Results are to
    the bit those of onnxruntime's DequantizeLinear, Resize, QuantizeLinear and QLinearConcat.
    """
    from onnx import numpy_helper

    known, uses = Known.of(graph), Uses.of(graph)
    found = [one for node in graph.node if (one := _enlargement(node, known, uses)) is not None]
    made = tables([one.looked_up for one in found if one.looked_up is not None], known)
    graph.initializer.extend(numpy_helper.from_array(table, name) for name, table in made.items())
    for one in found:
        widened, _, rounded, *_ = one.nodes
        table = [one.looked_up.result] if one.looked_up else []
        last = one.nodes[-1]
        last.input[:] = [*widened.input, *rounded.input[1:], *filter(None, [one.beside]), *table]
        height, width = one.factors
        numbers = {"height_factor": height, "width_factor": width, "other_first": int(one.beside_first)}
        become_ours(last, "Enlarge", numbers)
        describe(last, graph)
        for node in one.nodes[:-1]:
            graph.node.remove(node)


def _enlargement(node: onnx.NodeProto, known: Known, uses: Uses) -> _Enlargement | None:
    factors = _factors(node, known) if node.op_type == "Resize" else None
    widened = uses.maker(node.input[0], "DequantizeLinear", 3) if factors else None
    rounded = uses.user(node.output[0], "QuantizeLinear", 3) if factors else None
    if factors is None or widened is None or rounded is None:
        return None
    if len(uses.used[widened.output[0]]) > 1 or widened.output[0] in uses.outputs:
        return None
    if not all(known.is_scale(one.input[1:]) for one in (widened, rounded)):
        return None
    return _joined([widened, node, rounded], factors, known, uses)


def _factors(node: onnx.NodeProto, known: Known) -> tuple[float, float] | None:
    """Of height and width, where a Resize interpolates between pixels and makes nothing smaller."""
    said = says(node)
    if len(node.input) != 3 or any(said[name] for name in said.keys() - _PLAIN):
        return None
    if said.get("mode") != b"linear" or said.get("coordinate_transformation_mode", _PIXELS[0]) not in _PIXELS:
        return None
    factors = known.numbers(node.input[2])
    if len(factors) != 4 or (factors[0], factors[3]) != (1, 1) or min(factors) < 1 or max(factors) == 1:
        return None
    return factors[1], factors[2]


def _joined(
    nodes: list[onnx.NodeProto], factors: tuple[float, float], known: Known, uses: Uses
) -> _Enlargement:
    """With the concatenation of channels behind it, if it is one of two and rounds as `nodes` do."""
    from onnx import helper

    alone = _Enlargement(nodes, factors)
    result = nodes[-1].output[0]
    users = uses.used.get(result, [])
    if len(users) != 1 or result in uses.outputs or users[0].op_type != "QLinearConcat":
        return alone
    concat = users[0]
    if len(concat.input) != _OF_TWO or says(concat).get("axis") not in (3, -1):
        return alone
    to = concat.input[:2]
    parts = [concat.input[2:5], concat.input[5:]]
    first = parts[0][0] != result
    beside, own = parts if first else parts[::-1]
    if not all(known.is_scale(names) for names in (to, beside[1:], own[1:])):
        return alone
    if _numbers(own[1:], known) != _numbers(to, known):
        return alone
    change = None
    if _numbers(beside[1:], known) != _numbers(to, known):
        table = f"{concat.output[0]}/table"
        inputs = [*to, *beside]
        one = helper.make_node("QLinearConcat", inputs, [table], domain=concat.domain, axis=0)
        change = Chain(beside[0], [one], table)
    return _Enlargement([*nodes, concat], factors, beside[0], first, change)


def _numbers(names: Sequence[str], known: Known) -> list[list[float]]:
    return [known.numbers(name) for name in names]
