"""refine-head: the vocabulary is scored with few bits, and the likeliest of it with eight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from graphopt.ir import MICROSOFT, LazyTensor, consumers, has_data, initializer
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass

from ._block_nodes import BlockWeight, looked_up
from ._forms import Form
from ._nbits import Packed, kept, quantize_rows, unpacked

_CONTRACTS = {2: Contract.lossy("sqnr", 3.0), 4: Contract.lossy("sqnr", 12.0)}
_WORTH = 8  # times as many rows as are looked up one by one: below, there is little left to save. A judgement
_TILE = 1 << 22  # entries at a time: 16 MiB of float32


class RefineHead(Pass):
    """Scores come from a copy of the head in fewer bits; the best of them are computed again from the head.

    Before: logits = MatMulNBits(h, W), W in 8 bits
    After:  rough = MatMulNBits(h, W in fewer bits); at = TopK(rough, best);
            logits = ScatterElements(rough, at, h . rows at of W)
    Who writes a token reads half of the head, and the tokens that are ever drawn have the logits of eight
    bits: what is off is the share of those that are not. A head that is the embedding's table stays stored
    for that; another one is read by rows alone. Each place asks for `best` rows of W in float32, so that a
    prompt which is scored at every place takes memory; with `last-token-head` it is not.
    Refuses: a product whose scores are no output named logits, not float32, or with a choice of columns or a
    bias in it; one with fewer than 8 times as many rows as are computed again, or whose rows end within a
    block or have no row of scales each.
    """

    name: ClassVar[str] = "refine-head"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = _CONTRACTS[4]
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """bits and block_size of the copy, rounded to nearest; best: how many tokens are scored again."""

        bits: Literal[2, 4] = 4
        block_size: Literal[16, 32, 64, 128, 256] = 128
        best: int = 256

    def effective_contract(self) -> Contract:
        return _CONTRACTS[self.options.bits]

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if (node.domain, node.op_type) != (MICROSOFT, "MatMulNBits"):
                continue
            if node.attributes.get_int("bits", 4) != 8 or not _gives_logits(node):
                continue
            reason = self._unfit(node)
            if reason is not None:
                yield NearMiss(node.name or node.op_type, reason)
                continue
            yield self._refined(node, context)

    def _unfit(self, node: ir.Node) -> str | None:
        size, width, block = (node.attributes.get_int(name, 0) for name in ("N", "K", "block_size"))
        if node.outputs[0].dtype != ir.DataType.FLOAT:
            return "its scores are not float32"
        if any(node.inputs[4:]):
            return "it has a bias, or an order of its columns"
        if any(value is None or not _is_known(value) for value in node.inputs[1:3]):
            return "its weight is computed"
        if any(
            value is not None and value.shape is not None and len(value.shape) != 2
            for value in node.inputs[2:4]
        ):
            return "its scales or zero points are not a row for each of its own"
        if size < _WORTH * self.options.best:
            return f"it has fewer than {_WORTH * self.options.best} rows"
        if width % block:
            return f"rows of {width} are not a multiple of their blocks of {block}"
        return None

    def _refined(self, node: ir.Node, context: Context) -> Edit:
        exact = _weight(node)
        rough = self._rough(exact, context)
        hidden, old = node.inputs[0], node.outputs[0]
        assert hidden is not None
        assert hidden.shape is not None
        make = Nodes(node.name or "head")
        level = node.attributes.get_int("accuracy_level", 0)
        scores = make.op(
            "MatMulNBits",
            [hidden, rough.weight, rough.scales],
            "rough",
            like=old,
            domain=MICROSOFT,
            K=rough.width,
            N=rough.rows,
            bits=rough.bits,
            block_size=rough.block,
            accuracy_level=level,
        )
        best = make.constant([self.options.best], np.int64, "best")
        shape = [*hidden.shape[:-1], self.options.best]
        same = ir.Value(name="", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(shape))
        _, at = make.many("TopK", [scores, best], "likeliest", [old, same], axis=-1, sorted=0)
        rows = looked_up(make, at, exact)
        last = make.constant([-1], np.int64, "last")
        column = make.op("Unsqueeze", [hidden, last], "column", dtype=ir.DataType.FLOAT)
        product = make.op("MatMul", [rows, column], "again", dtype=ir.DataType.FLOAT)
        again = make.op("Squeeze", [product, last], "scores", dtype=ir.DataType.FLOAT, shape=shape)
        logits = make.op("ScatterElements", [scores, at, again], "refined", like=old, axis=-1)
        return Edit(
            f"{self.options.best} of {rough.rows} scores from 8 bits, all from {rough.bits}",
            remove=[node],
            insert=make.nodes,
            initializers=[*rough.new_initializers(), *make.initializers],
            replace={old: logits},
        )

    def _rough(self, exact: BlockWeight, context: Context) -> BlockWeight:
        form = Form(self.options.bits, self.options.block_size).fitting(exact.width)
        name = (exact.weight.name or "head").split("/q")[0]
        weight, scales, _ = kept(_rounded(exact, form), form, (exact.rows, exact.width), context)
        return BlockWeight(
            initializer(f"{name}~rough/q{form.bits}", LazyTensor(weight)),
            initializer(f"{name}~rough/scales", ir.tensor(scales)),
            None,
            form.bits,
            form.block,
            exact.width,
        )


def refined_head(last: ir.Node) -> list[ir.Node]:
    """The nodes of a head that this pass refined, in their order, where `last` is the last one; else none.

    The first is a product, and nothing else of what it is multiplied by, nor any other value, goes in or out.
    """
    scores = last.inputs[0].producer() if last.inputs[0] is not None else None
    if scores is None or (scores.domain, scores.op_type) != (MICROSOFT, "MatMulNBits"):
        return []
    found, values = {scores, last}, [*last.inputs[1:]]
    while values:
        value = values.pop()
        node = None if value is None or value is scores.inputs[0] else value.producer()
        if node is not None and node not in found:
            found.add(node)
            values += node.inputs
        elif node is None and value is not None and value.is_graph_input():
            return []
    inner = [value for node in found - {last} for value in node.outputs]
    if any(value.is_graph_output() or set(consumers(value)) - found for value in inner):
        return []
    return [scores, *(node for node in last.graph or () if node in found - {scores})]


def _gives_logits(node: ir.Node) -> bool:
    return node.outputs[0].is_graph_output() and node.outputs[0].name == "logits"


def _is_known(value: ir.Value) -> bool:
    return not value.is_graph_input() and value.const_value is not None and has_data(value.const_value)


def _weight(node: ir.Node) -> BlockWeight:
    weight, scales, zeros = (*node.inputs[1:4], None)[:3]
    assert weight is not None
    assert scales is not None
    width, block = node.attributes.get_int("K", 0), node.attributes.get_int("block_size", 0)
    return BlockWeight(weight, scales, zeros, 8, block, width)


def _rounded(exact: BlockWeight, form: Form) -> Iterator[Packed]:
    """The rows of `exact` in `form`, some at a time."""
    weight, scales, zeros = (
        None if value is None or value.const_value is None else value.const_value.numpy()
        for value in (exact.weight, exact.scales, exact.zeros)
    )
    assert weight is not None
    assert scales is not None
    step = max(1, _TILE // exact.width)
    for start in range(0, exact.rows, step):
        part = slice(start, start + step)
        held = Packed(weight[part], scales[part], None if zeros is None else zeros[part])
        rows = unpacked(held, exact.bits, exact.width)
        yield quantize_rows(rows, form.bits, form.block)
