"""quantize-static: convolutions and what lies between them in 8-bit integers, scales known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Stream
from graphopt.interface import adapt_feeds
from graphopt.ir import LazyTensor, const_of, lazy, name_matches, node_name
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Outcome,
    Pass,
)

from ._affine import Affine, IntegerWeight, affine, rounded_bias, rounded_weight
from ._calibrated import Hessians, with_drawn
from ._floats import is_rounded_at_load, kept_in_floats
from ._gptq import Hessian
from ._placement import Placement, Taken, placed, products_of
from ._retention import Saved, damages, worst
from ._spans import FEWEST, Method, Observed, Span
from ._there_and_back import hard_sigmoid, parameters, there_and_back

_SHARE = 4
"""Products of matrices to a convolution from which a model is no convolutional one. A judgement: a vision
transformer has tens, a detector with a transformer behind its convolutions two."""
_WIDER = 1.5
"""How much wider a range may become for what it is joined with: half a bit. A judgement."""
_MEASURED = 4
"""Samples by which damage is measured: what is behind a product is computed for each, and held."""
_ANY = (-inf, inf)
_DAMPING = 0.1
"""Of GPTQ of a whole output: ten times that of blocks. By hand, in PyTorch, sentences are as near with either
(mean of 256 of all-MiniLM-L6-v2 0.99928), and texts unlike the calibration text nearer."""
_CHECKED = 16
"""Samples that edits are run on. One has rows enough, but a quiet picture uses few steps of a range that
louder ones need: with the first two 42 of 56 convolutions of a detector were taken back, with 16 none."""


class QuantizeStatic(Pass):
    """Convolutions become integer kernels: weights int8 with a scale for each output, activations uint8.

    Before: y = Relu(Conv(x, W, b)), float32
    After:  y = DequantizeLinear(QuantizeLinear(Conv(DequantizeLinear(QuantizeLinear(x)),
            DequantizeLinear(W8), DequantizeLinear(b32))))
    A runtime fuses each product with its neighbours into one integer kernel (QDQ). Scales of activations come
    from calibration data. What lies between two products (sums of residuals, pooling, concatenation, moves)
    stays in integers where the target has kernels for it, and what only moves numbers shares one scale. Relu
    and Clip are left to the range. Biases are int32 in steps of both scales. Outputs of the model stay float.
    Products that do too much damage to an output for the time they save stay in floats, by measurement.
    With `products = "matrices"` it is products of matrices in models of these, what they multiply being
    rounded before each: for targets that have no other integers, and models without a cache.
    Each edit runs beside what it replaces on calibration data; one that does too much damage is taken back.
    Refuses: models without calibration data, or with few convolutions beside products of matrices; a target
    without integer kernels, or with `products = "matrices"` one that finds scales as it runs; weights that
    are computed, not float32 or without data; names that `exclude` matches or `include` does not.
    """

    name: ClassVar[str] = "quantize-static"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 20.0)
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """method: where activations are clipped; percentile: how many of 100 entries that method keeps;
        damage: how much 1 - cosine of each output may grow to, a product's share of it being measured;
        activations: unsigned around any zero point, signed around zero, or whichever the target wants; bits:
        7 for x86 processors without VNNI, whose sums of two 8-bit products overflow; include and exclude:
        globs over names of products, separated by commas; terms: of fewer a convolution of the input stays in
        floats, that of 3 x 3 places of three colours, say, which onnxruntime's integer kernel copies in small
        pieces; products: which models are taken, those of convolutions or of matrices; rounding: of weights
        in the latter, to nearest, or so that what one is off by is made up for in the next (gptq).
        """

        method: Method = "mse"
        percentile: float = 99.99
        damage: float = 0.004
        activations: Literal["target", "uint8", "int8"] = "target"
        bits: Literal[7, 8] = 8
        include: str = "*"
        exclude: str = ""
        terms: int = 32
        products: Literal["convolutions", "matrices"] = "convolutions"
        rounding: Literal["nearest", "gptq"] = "nearest"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        chosen = set()
        found = dict(products_of(graph))
        alone = self.options.products == "matrices"
        if _is_convolutional(found) is alone or (alone and not self._wants_matrices(found, context)):
            return
        for node, reason in found.items():
            reason = reason or self._unwanted(node)
            if reason is None:
                chosen.add(node)
            elif node.op_type == "Conv":
                yield NearMiss(node_name(node), reason)
        computes = _computes(context)
        placement = placed(graph, chosen, computes, alone=alone)
        if not any(alone or taken.node.op_type == "Conv" for taken in placement.taken):
            if chosen:
                yield NearMiss(self.name, "the target computes no convolutions in integers")
            return
        stream = context.stream(data=with_drawn(context) if alone else None)
        if isinstance(stream, str):
            what = "products" if alone else "convolutions"
            count = sum(alone or node.op_type == "Conv" for node in chosen)
            context.note(f"{self.name}: {count} {what} stay in floats: {stream}; give --calibration")
            yield NearMiss(self.name, stream)
            return
        assert context.calibration is not None
        context.calibration.require(FEWEST[self.options.method], f"{self.name} ({self.options.method})")
        for node, reason in placement.islands.items():
            if node in found:
                continue
            yield NearMiss(node_name(node), f"{node.op_type}: {reason}")
        key = f"{self.name}/matrices" if alone else self.name
        spans = context.decide(key, lambda: self._spans(placement, stream, context))
        weights = self._weights(placement, spans, context) if self.options.rounding == "gptq" else {}
        names = context.decide(
            f"{key}/floats", lambda: self._retained(graph, placement, spans, weights, context)
        )
        left = {taken.node for taken in placement.taken if node_name(taken.node) in names}
        for node in left:
            yield NearMiss(node_name(node), "it would change the output too much for what it saves")
        if left:
            smaller = placed(graph, chosen - left, computes, alone=alone)
            spans = spans | {_name(v): spans[_name(placement.root(v))] for v in smaller.activations()}
            placement = smaller
        yield from self._proposed(placement, spans, weights, context)

    def _wants_matrices(self, products: Mapping[ir.Node, str | None], context: Context) -> bool:
        """Whether there are such, and the target wants their scales beforehand."""
        target = context.target
        wanted = target is not None and target.capabilities().static_scales()
        return wanted and not context.states and bool(products)

    def _unwanted(self, node: ir.Node) -> str | None:
        name = node_name(node)
        if not name_matches(name, self.options.include) or name_matches(name, self.options.exclude):
            return "it is left out by name"
        if node.op_type == "Conv" and _is_first(node) and _terms(node) < self.options.terms:
            return "it reads the input, and so few numbers for each result that floats are faster"
        return None

    def _spans(self, placement: Placement, stream: Stream, context: Context) -> dict[str, Span]:
        """By the name of each value whose range counts, where it is clipped."""
        found: dict[str, Span] = {}
        values = placement.values()
        for value in context.watch(values, "looking at ranges"):
            observed = Observed()
            for (array,) in stream.values([value]):
                observed.add(array)
            found[_name(value)] = observed.span(self.options.method, self.options.percentile)
        return found

    def _weights(
        self, placement: Placement, spans: Mapping[str, Span], context: Context
    ) -> dict[ir.Node, IntegerWeight]:
        """Of products of matrices, rounded by GPTQ for what they are multiplied by."""
        hessians = Hessians(context, self.name, with_drawn(context))
        kinds = self._kinds(placement, spans, context)
        products = [t for t in placement.taken if t.axis is not None and t.node.op_type != "Conv"]
        found = {}
        for taken in context.watch(products, "rounding weights"):
            hessian = hessians.of(_of(taken.node.inputs[0]), _DAMPING)
            found[taken.node] = _integers(taken, self.options.bits, kinds, context, hessian)
        return found

    def _retained(
        self,
        graph: ir.Graph,
        placement: Placement,
        spans: Mapping[str, Span],
        weights: Mapping[ir.Node, IntegerWeight],
        context: Context,
    ) -> list[str]:
        """Names of products that stay in floats, by what they do to the outputs and the time they save."""
        products = {taken.node: taken for taken in placement.taken if taken.axis is not None}
        work = self._work(placement, spans, weights, context)

        def edit(taken: Taken) -> Edit:
            return work.edit(taken)[0]

        saved = Saved(context.target, edit, context.opset)
        found = damages(
            graph,
            [_some(context, _MEASURED)],
            [*products.values()],
            edit,
            context.opset,
            lambda items: context.watch(items, "measuring damage"),
            saved,
        )
        left = worst(found, self.options.damage, lambda node: saved.of(products[node]))
        return sorted(map(node_name, left))

    def _work(
        self,
        placement: Placement,
        spans: Mapping[str, Span],
        weights: Mapping[ir.Node, IntegerWeight],
        context: Context,
    ) -> _Work:
        kinds = self._kinds(placement, spans, context)
        return _Work(context, self.options.bits, kinds, weights, _samples(context))

    def _kinds(self, placement: Placement, spans: Mapping[str, Span], context: Context) -> dict[str, Affine]:
        activations = self.options.activations
        if activations == "target":
            target = context.target
            signed = target is not None and target.capabilities().signed_activations()
            activations = "int8" if signed else "uint8"
        return {
            _name(value): affine(spans[_name(placement.root(value))], activations)
            for value in placement.activations()
        }

    def _proposed(
        self,
        placement: Placement,
        spans: Mapping[str, Span],
        weights: Mapping[ir.Node, IntegerWeight],
        context: Context,
    ) -> Edits:
        """An edit for each node, in the order of the graph."""
        work = self._work(placement, _shared(placement, spans), weights, context)
        for taken in context.watch(placement.taken, "rounding"):
            edit, entering = work.edit(taken)
            outcome = yield edit
            if outcome is Outcome.APPLIED:
                work.applied(taken, edit, entering)
            else:
                yield NearMiss(node_name(taken.node), "rounded it was too far off on calibration data")
        for node in list(context.model.graph):
            if is_rounded_at_load(node):
                yield kept_in_floats(node)


def _shared(placement: Placement, spans: Mapping[str, Span]) -> dict[str, Span]:
    """`spans`, but one for what is joined where that costs little: integers are copied as they are then.

    What has no other use is rounded once instead of twice.
    """
    found = dict(spans)
    bounds = {value: taken.bounds for taken in placement.taken for value in taken.outputs}
    for inputs, output in placement.joined():
        own = [value for value in (*inputs, output) if not value.is_initializer()]
        far = [value for value in own if value is output or len(value.uses()) > 1]
        lows, highs = zip(*(found[_name(value)] for value in far), strict=True)
        joint = min(lows), max(highs)
        if joint[1] - joint[0] > _WIDER * min(high - low for low, high in zip(lows, highs, strict=True)):
            joint, own = found[_name(output)], [value for value in own if value not in far]
        found[_name(output)] = joint
        placement.share([v for v in own if _is_within(joint, bounds.get(v, _ANY))], output)
    return found


def _is_within(span: Span, bounds: Span) -> bool:
    return bounds[0] <= span[0] and span[1] <= bounds[1]


def _is_convolutional(products: Mapping[ir.Node, str | None]) -> bool:
    convolutions = sum(node.op_type == "Conv" for node in products)
    matrices = sum(node.op_type == "MatMul" for node in products)
    return convolutions > 0 and matrices <= _SHARE * convolutions


def _is_first(convolution: ir.Node) -> bool:
    """Whether it looks at places of the model's input beside each other."""
    weight = _of(convolution.inputs[1])
    assert weight.const_value is not None
    return _of(convolution.inputs[0]).is_graph_input() and prod(weight.const_value.shape.numpy()[2:]) > 1


def _terms(convolution: ir.Node) -> int:
    """How many products each of its results is the sum of."""
    weight = _of(convolution.inputs[1])
    assert weight.const_value is not None
    return prod(weight.const_value.shape.numpy()[1:])


def _computes(context: Context) -> Callable[[str], bool]:
    if context.target is None:
        return lambda op_type: True
    return context.target.capabilities().computes_in_integers


def _name(value: ir.Value) -> str:
    return value.name or ""


def _some(context: Context, samples: int) -> dict[str, Any]:
    """So many samples of the calibration data in one call, as far apart as they lie, for the model as it is.

    The first call, where samples cannot be taken out of calls, or so many samples of it where they differ in
    other sizes or have a number beside them.
    """
    data = context.calibration
    assert data is not None
    calls = [adapt_feeds(context.adapters, call) for call in data.calls]
    first = calls[0]
    if not all(isinstance(v.shape[0], ir.SymbolicDim) for v in context.model.graph.inputs if v.shape):
        return dict(first)
    sizes = {name: {call[name].shape[1:] for call in calls} for name in first}
    if any(len(found) > 1 for found in sizes.values()) or not all(array.ndim for array in first.values()):
        return {name: array[:samples] if array.ndim else array for name, array in first.items()}
    places = [(at, row) for at, call in enumerate(calls) for row in range(len(next(iter(call.values()))))]
    count = min(samples, len(places))
    chosen = [places[i * len(places) // count] for i in range(count)]
    return {name: np.stack([calls[at][name][row] for at, row in chosen]) for name in first}


def _samples(context: Context) -> Callable[[Sequence[ir.Value]], list[Any]]:
    """What values of the graph, as it is by then, are in a few samples of the calibration data."""
    stream = Stream(context.model.graph, [_some(context, _CHECKED)])

    def values(wanted: Sequence[ir.Value]) -> list[Any]:
        (found,) = stream.values(wanted)
        return found

    return values


class _Work:
    """Edits of one graph, node after node. `kinds` are by the names of values, which edits keep."""

    def __init__(
        self,
        context: Context,
        bits: int,
        kinds: Mapping[str, Affine],
        weights: Mapping[ir.Node, IntegerWeight],
        samples: Callable[[Sequence[ir.Value]], list[Any]],
    ) -> None:
        self._context, self._bits, self._kinds, self._samples = context, bits, kinds, samples
        self._weights = weights
        self._integers: dict[ir.Value, ir.Value] = {}

    def edit(self, taken: Taken) -> tuple[Edit, dict[ir.Value, ir.Value]]:
        """The edit of a node, and what it makes of floats that come from outside."""
        node, new = taken.node, Nodes(node_name(taken.node))
        inputs, entering = list(node.inputs), dict[ir.Value, ir.Value]()
        for place in taken.activations:
            x = inputs[place]
            assert x is not None
            if x not in self._integers and x not in entering:
                entering[x] = self._entered(x, new)
            inputs[place] = entering.get(x) or self._integers[x]
        if taken.axis is not None:
            self._weighted(taken, inputs, new)
        made = self._made(node, inputs, new)
        if taken.absorbed is not None and not self._saturates(taken):
            made = new.copy(taken.absorbed, [made[0], *taken.absorbed.inputs[1:]], "activation")
        outputs = taken.outputs
        after = [
            there_and_back(y, self._kinds[_name(old)], f"out{i or ''}", new)
            if taken.rounds and node.op_type != "HardSigmoid"
            else y
            for i, (y, old) in enumerate(zip(made, outputs, strict=True))
        ]
        edit = Edit(
            f"{node.op_type} in 8-bit integers",
            remove=[node] if taken.absorbed is None else [node, taken.absorbed],
            insert=new.nodes,
            initializers=new.initializers,
            replace=dict(zip(outputs, after, strict=True)),
            before=node,
            tentative=True,
            samples=self._samples,
        )
        return edit, entering

    def _made(self, node: ir.Node, inputs: list[ir.Value | None], new: Nodes) -> list[ir.Value]:
        """What `node` makes of rounded inputs."""
        x = _of(inputs[0])
        if node.op_type == "HardSwish":
            return [new.op("Mul", [x, hard_sigmoid(x, 1 / 6, 0.5, new)], "integer", like=x)]
        if node.op_type == "ReduceMean":
            return [self._averaged(node, x, new)]
        if node.op_type == "HardSigmoid":
            attributes = node.attributes
            return [
                hard_sigmoid(x, attributes.get_float("alpha", 0.2), attributes.get_float("beta", 0.5), new)
            ]
        return new.copy(node, inputs, "integer")

    def _averaged(self, node: ir.Node, x: ir.Value, new: Nodes) -> ir.Value:
        """The mean of all places, as GlobalAveragePool, without these dimensions where `node` keeps none."""
        assert x.shape is not None
        places = list(range(2, len(x.shape)))
        mean = new.op("GlobalAveragePool", [x], "integer", dtype=x.dtype)
        mean.shape = ir.Shape([*x.shape[:2], *[1] * len(places)])
        if node.attributes.get_int("keepdims", 1):
            return mean
        kind = self._kinds[_name(node.outputs[0])]
        rounded = there_and_back(mean, kind, "mean", new)
        return new.op("Squeeze", [rounded, new.constant(places, np.int64, "places")], "flat", dtype=x.dtype)

    def _saturates(self, taken: Taken) -> bool:
        """Whether the integers that for what comes out reach as far as what was absorbed lets it."""
        kind = self._kinds[_name(taken.outputs[0])]
        slack = float(kind.scale) / 2
        return _is_within(kind.reach, (taken.bounds[0] - slack, taken.bounds[1] + slack))

    def applied(self, taken: Taken, edit: Edit, entering: Mapping[ir.Value, ir.Value]) -> None:
        """What the edit made is in integers from here on."""
        self._integers |= entering
        if taken.rounds:
            self._integers |= {value: value for value in edit.replace.values()}

    def _entered(self, x: ir.Value, new: Nodes) -> ir.Value:
        if not x.is_initializer():
            return there_and_back(x, self._kinds[_name(x)], f"in{len(new.nodes) or ''}", new)
        array = const_of(x)
        assert array is not None
        kind = affine((min(0.0, float(array.min())), max(0.0, float(array.max()))), "uint8")
        label = f"constant{len(new.nodes) or ''}"
        integers = new.constant(kind.rounded(array), kind.zero.dtype, f"{label}/integers")
        return new.op("DequantizeLinear", [integers, *parameters(kind, label, new)], label, like=x)

    def _weighted(self, taken: Taken, inputs: list[ir.Value | None], new: Nodes) -> None:
        """Put the weight of a product, and its bias, in integers."""
        node, axis = taken.node, taken.axis
        weight, bias = inputs[1], inputs[2] if len(inputs) > 2 else None
        x, flat = self._kinds[_name(_of(node.inputs[0]))], _flat_bias(node)
        assert axis is not None
        assert weight is not None
        found = self._weights.get(node) or _integers(taken, self._bits, self._kinds, self._context)
        name, scales = _name(weight), found.scales
        integers = new.weight(LazyTensor(found.integers), f"{name}/int8")
        steps = new.weight(ir.tensor(scales), f"{name}/scales")
        zeros = new.weight(ir.tensor(np.zeros(len(scales), np.int8)), f"{name}/zeros")
        inputs[1] = new.op("DequantizeLinear", [integers, steps, zeros], "weight", like=weight, axis=axis)
        if bias is not None and flat is not None:
            sums = scales * x.scale
            whole = new.weight(ir.tensor(rounded_bias(flat, sums)), f"{_name(bias)}/int32")
            both = new.weight(ir.tensor(sums), f"{_name(bias)}/scales")
            inputs[2] = new.op("DequantizeLinear", [whole, both], "bias", like=bias, axis=0)


def _flat_bias(product: ir.Node) -> NDArray[np.float32] | None:
    """One number for each output, where it has any."""
    bias = product.inputs[2] if len(product.inputs) > 2 else None
    added = None if bias is None else const_of(bias)
    return None if added is None else added.reshape(-1).astype(np.float32)


def _integers(
    taken: Taken,
    bits: int,
    kinds: Mapping[str, Affine],
    context: Context,
    hessian: Hessian | None = None,
) -> IntegerWeight:
    """The weight of a product, rounded."""
    x, weight = map(_of, taken.node.inputs[:2])
    assert taken.axis is not None
    assert weight.const_value is not None
    tensor, bias = lazy(weight.const_value), _flat_bias(taken.node)
    return rounded_weight(tensor, taken.axis, bits, kinds[_name(x)], bias, context, hessian)


def _of(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
