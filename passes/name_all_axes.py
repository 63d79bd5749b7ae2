"""name-all-axes: Pad and Resize that name some axes say what becomes of the others."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, node_name
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_AXES = 3  # Pad's input
_SCALES = 2  # Resize's


class NameAllAxes(Pass):
    """Pads and scales for the axes that are named become pads and scales for all axes in their order.

    Before: Pad(x, [1, 2, 1, 2], value, axes=[1, 2]); Resize(x, scales=[2, 2]), axes [1, 2]
    After:  Pad(x, [0, 1, 2, 0, 0, 1, 2, 0], value); Resize(x, scales=[1, 2, 2, 1])
    onnxruntime 1.32 moves a Transpose past either without a look at the axes: other axes are padded or
    resized, or the call fails (findings/onnxruntime-axes-behind-transpose.sh).
    Refuses: pads, axes and scales that are no constants, an unknown rank, sizes, a region that is cut out.
    """

    name: ClassVar[str] = "name-all-axes"
    level: ClassVar[Level] = Level.UPGRADE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(18, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "":
                continue
            if node.op_type == "Pad" and len(node.inputs) > _AXES and node.inputs[_AXES] is not None:
                found = _pad(node)
            elif node.op_type == "Resize" and "axes" in node.attributes:
                found = _resize(node)
            else:
                continue
            yield NearMiss(node_name(node), found) if isinstance(found, str) else found


def _pad(node: ir.Node) -> Edit | str:
    x = node.inputs[0]
    pads, axes = const_of(node.inputs[1]), const_of(node.inputs[_AXES])
    if x is None or x.shape is None or pads is None or axes is None:
        return "its rank, pads or axes are not known"
    rank, count = len(x.shape), len(axes)
    whole = np.zeros(2 * rank, np.int64)
    for place, axis in enumerate(axes.tolist()):
        whole[axis % rank] = pads[place]
        whole[axis % rank + rank] = pads[place + count]
    make = Nodes(node_name(node))
    inputs = [x, make.constant(whole, "int64", "pads"), node.inputs[2]]
    return _edit(node, make, inputs, dict(node.attributes))


def _resize(node: ir.Node) -> Edit | str:
    x = node.inputs[0]
    scales = const_of(node.inputs[_SCALES]) if len(node.inputs) > _SCALES else None
    if x is None or x.shape is None or scales is None or scales.size == 0:
        return "its rank or scales are not known"
    if node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return "it cuts out a region"
    rank = len(x.shape)
    whole = np.ones(rank, np.float32)
    for place, axis in enumerate(node.attributes.get_ints("axes") or ()):
        whole[axis % rank] = scales[place]
    make = Nodes(node_name(node))
    attributes: dict[str, Any] = {key: value for key, value in node.attributes.items() if key != "axes"}
    return _edit(node, make, [x, None, make.constant(whole, "float32", "scales")], attributes)


def _edit(node: ir.Node, make: Nodes, inputs: list[ir.Value | None], attributes: dict[str, Any]) -> Edit:
    while inputs and inputs[-1] is None:
        inputs.pop()
    y = make.op(node.op_type, inputs, "of_all_axes", like=node.outputs[0], **attributes)
    return Edit(
        f"{node.op_type} says what becomes of each axis",
        remove=[node],
        insert=make.nodes,
        initializers=make.initializers,
        replace={node.outputs[0]: y},
    )
