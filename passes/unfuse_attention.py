"""unfuse-attention: attention as two products and a Softmax, its mask one row for all queries."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import evaluate, node_name, orphans, producer, same_dim, scalar_of, static_dim
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_MASK = 3  # Attention's input attn_mask
_SAME_FOR_EACH = ("Not", "Cast", "Mul", "Add", "Sub", "Max", "Where")
_RESHAPING = ("Unsqueeze", "Reshape", "Squeeze", "Expand", "Transpose")


class UnfuseAttention(Pass):
    """Attention is spelled out for runtimes that fuse it themselves, with no more of the mask than there is.

    Before: Attention(q, k, v, Where(And(GreaterOrEqual(Range(0, S, 1), 0), row), 0, -3e38))
    After:  MatMul(Softmax(Add(MatMul(q, Transpose(Mul(k, scale))), Gather([-3e38, 0], row))), v)
    A mask that is the same for all queries is one row [batch, 1, 1, keys] then: a condition on queries that
    always holds, and an Expand, are left out. Add broadcasts it, which not every kernel of Attention does.
    OpenVINO 2026.4 runs the products and the Softmax as one kernel as well, without a test for rows in which
    all is hidden behind it, and faster with such a mask (docs/decisions/foreign-runtimes.md).
    Refuses: a cache, causal attention, capped or used scores, fewer heads of keys than of queries, lengths of
    keys, heads in one axis, doubles; a mask with a row for each query, or a bool one.
    """

    name: ClassVar[str] = "unfuse-attention"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "Attention" or node.domain != "":
                continue
            make = Nodes(node_name(node))
            row = _row(node, make, context.opset)
            reason = row if isinstance(row, str) else _refused(node)
            if reason is not None:
                yield NearMiss(node_name(node), reason)
                continue
            assert not isinstance(row, str)
            y = _spelled(node, row, make)
            used = {value for new in make.nodes for value in new.inputs if value is not None}
            yield Edit(
                "attention as products and a Softmax",
                remove=orphans([node], used),
                insert=make.nodes,
                initializers=make.initializers,
                replace={node.outputs[0]: y},
                before=node,
            )


def _refused(node: ir.Node) -> str | None:
    if any(value is not None for value in node.inputs[_MASK + 1 :]):
        return "it has a cache, or lengths of keys"
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return "its scores or a cache are used"
    for name in ("is_causal", "softcap", "softmax_precision"):
        if name in node.attributes and (value := node.attributes[name].value):
            return f"{name} is {value}"
    q, k = node.inputs[0], node.inputs[1]
    heads = static_dim(q, 1)
    if q is None or q.shape is None or len(q.shape) != 4:
        return "its heads are in one axis"
    if q.dtype == ir.DataType.DOUBLE:
        return "its scale is a float, and it computes in doubles"
    if heads is None or heads != static_dim(k, 1) or static_dim(q, 3) is None:
        return "its heads are not known to be as many for keys as for queries, and of a known size"
    return None


def _row(node: ir.Node, make: Nodes, opset: int) -> ir.Value | str | None:
    """The mask of `node` as one row for all queries, where it has one; or why it is not."""
    mask = node.inputs[_MASK] if len(node.inputs) > _MASK else None
    if mask is None:
        return None
    if mask.dtype == ir.DataType.BOOL:
        return "its mask is bool"
    found = _behind(mask)
    if found is None:
        return "its mask has a row for each query"
    row, steps = found
    keys = node.inputs[1].shape if node.inputs[1] is not None else None
    if keys is None or row.shape is None or not row.shape or not same_dim(row.shape[-1], keys[-2]):
        return "its mask is not known to have all keys"
    return _again(row, steps, make, opset)


def _behind(value: ir.Value) -> tuple[ir.Value, list[ir.Node]] | None:
    """What `value`, broadcast to [batch, heads, queries, keys], is made from that has no queries, and how.

    That is by nodes that do the same to each number of one input, the last first. None where it has queries.
    """
    steps: list[ir.Node] = []
    while value.shape is None or (len(value.shape) > 1 and static_dim(value, -2) != 1):
        node = value.producer()
        if node is None or node.domain != "":
            return None
        wide = [v for v in node.inputs if v is not None and not _is_number(v)]
        if node.op_type in _SAME_FOR_EACH:
            steps.append(node)
        elif node.op_type == "Expand":
            wide = [v for v in node.inputs[:1] if v is not None]
        elif node.op_type == "And":
            wide = [v for v in wide if not _always(v)]
        else:
            return None
        if len(wide) != 1 or not _has_keys(wide[0], value):
            return None
        value = wide[0]
    return value, steps


def _again(row: ir.Value, steps: list[ir.Node], make: Nodes, opset: int) -> ir.Value:
    """The same done to `row`; to what becomes it by Unsqueeze before that, where there is one.

    What is done to a bool is looked up among the two numbers that come of it: OpenVINO takes operators on
    rows into the kernel of its scores, which computes them for each score (4 to 6 % of the time of
    all-MiniLM-L6-v2 in int8, by hand), and lookups it does not.
    """
    wider = producer(row, "Unsqueeze") if steps else None
    inner = row if wider is None else wider.inputs[0]
    assert inner is not None
    shape = None if inner.shape is None else list(inner.shape)
    if steps and row.dtype == ir.DataType.BOOL:
        int64 = ir.DataType.INT64
        places = make.op("Cast", [inner], "token", dtype=int64, shape=shape, to=int(int64))
        numbers = make.weight(ir.tensor(_of_both(steps, opset)), f"{make.base}/numbers")
        inner = make.op("Gather", [numbers, places], "numbers-of-row", dtype=numbers.dtype, shape=shape)
    else:
        inner = _applied(steps, inner, make, shape)
    if wider is None:
        return inner
    shape = None if row.shape is None else list(row.shape)
    return make.op("Unsqueeze", [inner, wider.inputs[1]], "row", dtype=inner.dtype, shape=shape)


def _applied(steps: list[ir.Node], value: ir.Value, make: Nodes, shape: Any) -> ir.Value:
    for index, node in enumerate(reversed(steps)):
        inputs = [v if v is None or _is_number(v) else value for v in node.inputs]
        attributes, dtype = dict[str, Any](node.attributes), node.outputs[0].dtype
        value = make.op(node.op_type, inputs, f"row{index}", dtype=dtype, shape=shape, **attributes)
    return value


def _of_both(steps: list[ir.Node], opset: int) -> NDArray[Any]:
    """[2]: what becomes of False and of True."""
    given = ir.Value(name="given", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([2]))
    make = Nodes("of-both")
    y = _applied(steps, given, make, [2])
    numbers = {v for node in make.nodes for v in node.inputs if v is not None and v.is_initializer()}
    view = ir.GraphView(
        [given], [y], nodes=make.nodes, initializers=[*numbers], opset_imports={"": opset}, name="g"
    )
    model = ir.Model(view.clone(), ir_version=10)
    for node in make.nodes:
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
    found: NDArray[Any] = evaluate(model, {"given": np.asarray([False, True])})[0]
    return found


def _is_number(value: ir.Value) -> bool:
    """Whether it is a weight of one element that leaves the rank of what it is combined with as it is."""
    small = value.is_initializer() and value.shape is not None and len(value.shape) < 2
    return small and scalar_of(value) is not None


def _has_keys(value: ir.Value, whole: ir.Value) -> bool:
    """Whether `value` has all the keys that `whole`, to which it is broadcast, has."""
    if value.shape is None or whole.shape is None or not len(value.shape) or not len(whole.shape):
        return False
    return same_dim(value.shape[-1], whole.shape[-1])


def _always(value: ir.Value) -> bool:
    """Whether a bool is True everywhere: numbers that count up from a first one are not below it."""
    node = producer(value, "GreaterOrEqual")
    if node is None:
        return False
    bound, numbers = scalar_of(node.inputs[1]), node.inputs[0]
    while (made := numbers.producer() if numbers is not None else None) is not None:
        if made.op_type not in _RESHAPING or made.domain != "":
            break
        numbers = made.inputs[0]
    counted = producer(numbers, "Range")
    if counted is None or bound is None:
        return False
    first, step = scalar_of(counted.inputs[0]), scalar_of(counted.inputs[2])
    return first is not None and step is not None and first >= bound and step > 0


def _spelled(node: ir.Node, row: ir.Value | None, make: Nodes) -> ir.Value:
    q, k, v = node.inputs[:3]
    assert q is not None
    assert k is not None
    assert v is not None
    assert q.shape is not None
    assert k.shape is not None
    assert k.dtype is not None
    size = static_dim(q, 3)
    assert size is not None
    given = node.attributes.get_float("scale", None)
    scale = make.constant(size**-0.5 if given is None else given, k.dtype.numpy(), "scale")
    batch, heads, keys, width = k.shape
    scaled = make.op("Mul", [k, scale], "scaled", like=k)
    shape = [batch, heads, width, keys]
    turned = make.op("Transpose", [scaled], "turned", dtype=k.dtype, shape=shape, perm=[0, 1, 3, 2])
    shape = [q.shape[0], heads, q.shape[2], keys]
    scores = make.op("MatMul", [q, turned], "scores", dtype=q.dtype, shape=shape)
    if row is not None:
        scores = make.op("Add", [scores, row], "masked", like=scores)
    weights = make.op("Softmax", [scores], "weights", like=scores, axis=-1)
    return make.op("MatMul", [weights, v], "attention", like=node.outputs[0])
