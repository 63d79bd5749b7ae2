"""raise-attention: scaled dot-product attention becomes one operator with its cache inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import consumers, producer, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass

from ._masks import masks_whole_rows


class RaiseAttention(Pass):
    """Attention, decomposed or with its cache outside, becomes the standard operator, the cache inside.

    Before: Softmax(softcap(MatMul(q, K^T) * scale) + mask) MatMul V, or Attention(q, K, V, mask);
            K = Concat(past_key, k) and V = Concat(past_value, v), perhaps repeated for grouped queries
    After:  Attention(q, k, v, mask, past_key, past_value) -> y, present_key, present_value
    A Where that zeroes rows which may attend to nothing goes with it: such rows are padding.
    Refuses: a softmax over another axis; scores used elsewhere; K and V repeated differently; a Where on
    another condition.
    """

    name: ClassVar[str] = "raise-attention"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            found = _operator(node) or _decomposed(node)
            if found is None:
                continue
            if isinstance(found, str):
                yield NearMiss(node.name or node.op_type, found)
                continue
            edit = _raised(found, context)
            if edit is not None:
                yield edit


@dataclass
class _Attention:
    q: ir.Value
    k: ir.Value
    v: ir.Value
    mask: ir.Value | None
    scale: float | None
    softcap: float
    nodes: list[ir.Node]
    output: ir.Value
    canonical: bool = False
    causal: int = 0
    extra: list[ir.Node] = field(default_factory=list)


def _operator(node: ir.Node) -> _Attention | None:
    """An Attention node without a cache."""
    if node.op_type != "Attention" or node.domain != "" or len(node.inputs) > 4:
        return None
    q, k, v = node.inputs[:3]
    if q is None or k is None or v is None or q.shape is None or len(q.shape) != 4:
        return None
    if any(o.uses() for o in node.outputs[1:]) or node.attributes.get_int("qk_matmul_output_mode", False):
        return None
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    attributes = node.attributes
    return _Attention(
        q, k, v, mask,
        attributes.get_float("scale", None),
        attributes.get_float("softcap", 0.0),
        [node],
        node.outputs[0],
        canonical=True,
        causal=attributes.get_int("is_causal", False),
    )  # fmt: skip


def _decomposed(node: ir.Node) -> _Attention | str | None:
    """softmax(scores) V."""
    if node.op_type != "MatMul" or node.domain != "":
        return None
    softmax = producer(node.inputs[0], "Softmax")
    if softmax is None or node.inputs[1] is None or node.outputs[0].shape is None:
        return None
    if len(node.outputs[0].shape) != 4:
        return None
    if softmax.attributes.get_int("axis", -1) not in (-1, 3):
        return "the softmax is not over the keys"
    if len(consumers(softmax.outputs[0])) != 1:
        return "the attention weights are used elsewhere"
    return _scores(node, softmax)


def _scores(node: ir.Node, softmax: ir.Node) -> _Attention | str | None:
    nodes = [node, softmax]
    value = softmax.inputs[0]
    mask: ir.Value | None = None
    add = producer(value, "Add")
    if add is not None:
        sides = [i for i, v in enumerate(add.inputs) if _leads_to_matmul(v)]
        if len(sides) != 1:
            return "scores and mask cannot be told apart"
        value, mask = add.inputs[sides[0]], add.inputs[1 - sides[0]]
        nodes.append(add)
    softcap = 0.0
    scale = 1.0
    outer = producer(value, "Mul")
    tanh = next((t for v in outer.inputs if (t := producer(v, "Tanh")) is not None), None) if outer else None
    if outer is not None and tanh is not None:
        cap = next((c for v in outer.inputs if (c := scalar_of(v)) is not None), None)
        inner = _scaled(tanh.inputs[0])
        if cap is None or inner is None:
            return "the soft cap is not one constant number"
        softcap, value = cap, inner[1]
        nodes += [outer, tanh, inner[2]]
        if abs(inner[0] * cap - 1) > 1e-3:
            scale = inner[0] * cap
    while (step := _scaled(value)) is not None:
        scale, value = scale * step[0], step[1]
        nodes.append(step[2])
    matmul = producer(value, "MatMul")
    if matmul is None or matmul.inputs[0] is None:
        return None
    nodes.append(matmul)
    if any(len(consumers(n.outputs[0])) != 1 or n.outputs[0].is_graph_output() for n in nodes[1:]):
        return "the scores are used elsewhere"
    turned = producer(matmul.inputs[1], "Transpose")
    q, k, v = matmul.inputs[0], None, node.inputs[1]
    extra: list[ir.Node] = []
    for side in range(2):
        operand = q if side == 0 else (turned.inputs[0] if turned is not None else None)
        step = _scaled(operand)
        if step is not None:
            scale *= step[0]
            operand = step[1]
            extra.append(step[2])
        if side == 0 and operand is not None:
            q = operand
        elif side == 1:
            k = operand
    if k is None or turned is None or v is None or q is None:
        return "the keys are not transposed before the product"
    if len(consumers(turned.outputs[0])) == 1:
        nodes.append(turned)
    perm = list(turned.attributes.get_ints("perm") or ())
    if perm == [0, 2, 3, 1]:
        k, transposed = _heads_first(k, turned)
        extra.append(transposed)
    elif perm != [0, 1, 3, 2]:
        return "the keys are not transposed before the product"
    return _Attention(q, k, v, mask, scale, softcap, nodes, node.outputs[0], extra=extra)


def _heads_first(k: ir.Value, turned: ir.Node) -> tuple[ir.Value, ir.Node]:
    """[batch, heads, keys, size] from [batch, keys, heads, size]: a new Transpose node, off-graph."""
    made = ir.Node(
        "", "Transpose", [k], attributes=[ir.AttrInt64s("perm", [0, 2, 1, 3])], num_outputs=1,
        name=f"{turned.name}/heads_first",
    )  # fmt: skip
    if k.shape is not None:
        made.outputs[0].shape = ir.Shape([k.shape[0], k.shape[2], k.shape[1], k.shape[3]])
    made.outputs[0].type = k.type
    return made.outputs[0], made


def _leads_to_matmul(value: ir.Value | None) -> bool:
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "MatMul":
            return True
        if node.op_type not in ("Mul", "Div", "Tanh") or node.domain != "":
            return False
        value = next((v for v in node.inputs if v is not None and scalar_of(v) is None), None)
    return False


def _scaled(value: ir.Value | None) -> tuple[float, ir.Value, ir.Node] | None:
    """factor, x and node with value = factor * x for a constant factor."""
    node = value.producer() if value is not None else None
    if node is None or node.domain != "" or node.op_type not in ("Mul", "Div"):
        return None
    left, right = node.inputs
    if left is None or right is None:
        return None
    factor = scalar_of(right)
    if node.op_type == "Div":
        return (1.0 / factor, left, node) if factor else None
    if factor is not None:
        return factor, left, node
    factor = scalar_of(left)
    return (factor, right, node) if factor is not None else None


def _raised(found: _Attention, context: Context) -> Edit | None:
    key, key_nodes, repeats = _unrepeated(found.k)
    value, value_nodes, value_repeats = _unrepeated(found.v)
    if repeats != value_repeats:
        key, value, key_nodes, value_nodes = found.k, found.v, [], []
    concats = producer(key, "Concat"), producer(value, "Concat")
    cached = all(c is not None and len(c.inputs) == 2 and _on_keys(c) for c in concats)
    guard = _guard(found, context)
    if found.canonical and not cached and not key_nodes and guard is None:
        return None
    tape = ir.tape.Tape()
    name = f"{found.nodes[0].name}/attention"
    attributes: dict[str, float | int] = {}
    if found.scale is not None:
        attributes["scale"] = found.scale
    if found.softcap:
        attributes["softcap"] = found.softcap
    if found.causal:
        attributes["is_causal"] = found.causal
    output = guard.outputs[0] if guard is not None else found.output
    removed = [*found.nodes] if guard is None else [guard, *found.nodes]
    fresh = [n for n in found.extra if n.graph is None]
    if cached:
        on_key, on_value = concats
        assert on_key is not None
        assert on_value is not None
        past = [on_key.inputs[0], on_value.inputs[0]]
        inputs = [found.q, on_key.inputs[1], on_value.inputs[1], found.mask, *past]
        made = tape.op_multi_out("Attention", inputs, attributes, num_outputs=3, name=name)
        replace = dict(zip((output, on_key.outputs[0], on_value.outputs[0]), made, strict=True))
        dead = [n for n in (*key_nodes, *value_nodes) if _only_feeds(n, {*removed, *key_nodes, *value_nodes})]
        removed += [*dead, on_key, on_value]
    else:
        y = tape.op("Attention", [found.q, key, value, found.mask], attributes, name=name)
        replace = {output: y}
    first = removed[0]
    return Edit(
        "Attention",
        remove=list(dict.fromkeys(removed)),
        insert=[*fresh, *tape.nodes],
        replace=replace,
        before=first,
    )


def _only_feeds(node: ir.Node, inside: set[ir.Node]) -> bool:
    return all(user in inside for o in node.outputs for user, _ in o.uses())


def _on_keys(concat: ir.Node) -> bool:
    return concat.attributes.get_int("axis") in (-2, 2)


def _unrepeated(value: ir.Value) -> tuple[ir.Value, list[ir.Node], int]:
    """Keys or values before each was repeated for its group's queries: the value, the nodes, how often."""
    reshape = producer(value, "Reshape")
    expand = producer(reshape.inputs[0], "Expand") if reshape is not None else None
    unsqueeze = producer(expand.inputs[0], "Unsqueeze") if expand is not None else None
    if reshape is None or expand is None or unsqueeze is None:
        return value, [], 1
    inner, repeated = unsqueeze.inputs[0], expand.outputs[0].shape
    if (
        inner is None
        or inner.shape is None
        or repeated is None
        or (len(inner.shape), len(repeated)) != (4, 5)
    ):
        return value, [], 1
    heads, times = inner.shape[1], repeated[2]
    if repeated[1] != heads or not isinstance(times, int):
        return value, [], 1
    if value.shape is None or not isinstance(heads, int) or value.shape[1] != heads * times:
        return value, [], 1
    return inner, [reshape, expand, unsqueeze], times


def _guard(found: _Attention, context: Context) -> ir.Node | None:
    """The Where that zeroes rows without any key, if that is what it does."""
    users = consumers(found.output)
    if len(users) != 1 or users[0].op_type != "Where" or users[0].inputs[2] is not found.output:
        return None
    where = users[0]
    condition, zero = where.inputs[0], scalar_of(where.inputs[1])
    if condition is None or zero != 0.0 or found.mask is None:
        return None
    return where if masks_whole_rows(condition, found.mask, context) else None
