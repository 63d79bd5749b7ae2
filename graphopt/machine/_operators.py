"""Operators that are neither product nor attention, and what a node costs whatever it computes."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.ir.operators import BLOCK_LOOKUP, QUICK_GELU, SKIP_NORMS
from graphopt.machine._graphs import Graph, Weights
from graphopt.machine._intervals import difference_of, scaled
from graphopt.machine._profile import Interval, OperatorRate
from graphopt.machine._pulse import Pulse
from graphopt.machine._turns import repeated

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["dispatch_seconds", "operator_rates"]

_WIDTH = 2048
_ROWS = (1, 256)
_NODES = 24
_TABLE = 4096
_BESIDE = 3
"""Operators that are measured beside one sample of the pulse."""
_SLOPE = 0.1
"""An element takes at least so much of its share of the time of many. A judgement."""

Probe = Callable[[Graph, str, int], str]
"""Adds a node of a value float32[rows, width], numbered, and gives its result of the same shape."""


def _unary(operator: str, **says: Any) -> Probe:
    return lambda graph, x, i: graph.node(operator, [x], [f"{operator}{i}"], **says)


def _with_other(operator: str) -> Probe:
    """With `other`, an input of the graph: a constant might be made a part of what is before it."""
    return lambda graph, x, i: graph.node(operator, [x, "other"], [f"{operator}{i}"])


def _normalized(operator: str, extra: int = 0, **says: Any) -> Probe:
    def add(graph: Graph, x: str, i: int) -> str:
        gains = [graph.constant(f"gain{i}.{j}", np.ones(_WIDTH, np.float32)) for j in range(1 + extra)]
        inputs = [x, "other", *gains] if operator in SKIP_NORMS else [x, *gains]
        outputs = [f"{operator}{i}", "", "", f"sum{i}"] if operator in SKIP_NORMS else [f"{operator}{i}"]
        return graph.node(operator, inputs, outputs, **says)

    return add


def _rotated(graph: Graph, x: str, i: int) -> str:
    """[rows, width] as one text of rows tokens, heads of 64."""
    if i == 0:
        x = graph.node("Unsqueeze", [x, graph.constant("first", [0])], ["text"])
        for name in ("cos", "sin"):
            graph.constant(name, np.ones((_ROWS[-1], 32), np.float32))
        graph.node("Shape", [x], ["length"], start=1, end=2)
        graph.node("Squeeze", ["length"], ["limit"])
        graph.node("Range", [graph.constant("0", 0), "limit", graph.constant("1", 1)], ["range"])
        graph.node("Unsqueeze", ["range", "first"], ["positions"])
    says = {"num_heads": _WIDTH // 64}
    return graph.node("RotaryEmbedding", [x, "cos", "sin", "positions"], [f"rotated{i}"], **says)


def _looked_up(graph: Graph, x: str, i: int) -> str:
    if i == 0:
        graph.weight("levels", np.uint8, (_TABLE, _WIDTH // 2))
        graph.weight("scales", np.float32, (_TABLE, _WIDTH // 128))
    says = {"gather_axis": 0, "quantize_axis": 1, "block_size": 128, "bits": 4}
    row = graph.node(BLOCK_LOOKUP, ["levels", "tokens", "scales"], [f"row{i}"], **says)
    return row if i == 0 else graph.node("Add", [x, row], [f"added{i}"])


PROBES: dict[str, Probe] = {
    "Add": _with_other("Add"),
    "Mul": _with_other("Mul"),
    "Sigmoid": _unary("Sigmoid"),
    "Tanh": _unary("Tanh"),
    "Erf": _unary("Erf"),
    "Relu": _unary("Relu"),
    "Gelu": _unary("Gelu", approximate="none"),
    "Softmax": _unary("Softmax", axis=-1),
    QUICK_GELU: _unary(QUICK_GELU, alpha=1.0),
    "RMSNormalization": _normalized("RMSNormalization"),
    "LayerNormalization": _normalized("LayerNormalization", 1),
    SKIP_NORMS[0]: _normalized(SKIP_NORMS[0], epsilon=1e-5),
    SKIP_NORMS[1]: _normalized(SKIP_NORMS[1], 1, epsilon=1e-5),
    "RotaryEmbedding": _rotated,
    BLOCK_LOOKUP: _looked_up,
}
REDUCED = ("Add", "RMSNormalization")


def dispatch_seconds(
    target: Target, weights: Weights, threads: int, seconds: float
) -> tuple[Interval, float]:
    """Of a node that computes nothing to speak of, what 200 more of them take, each; and of a call of a graph
    beyond its nodes."""
    times = list[list[float]]()
    feeds = {"x": np.ones((1, 1), np.float32), "other": np.ones((1, 1), np.float32)}
    for count in (8, 208):
        graph = _chain(weights, "Add", PROBES["Add"], count, width=1)
        session = target.session(graph.write(weights.folder / "dispatch.onnx"), threads=threads)
        times.append(repeated(functools.partial(session.run, None, feeds), seconds))
    each = difference_of(times[1], times[0], 200)
    return each, max(statistics.median(times[0]) - 9 * each.value, 0.0)


def operator_rates(
    target: Target,
    weights: Weights,
    pulse: Pulse,
    threads: int,
    seconds: float,
    operators: Sequence[str],
    dispatch: float,
) -> Iterator[OperatorRate]:
    """Of each of `operators` that `target` loads: from a row and from many, as a line, at the reference of
    `pulse`. No call is shorter than `dispatch`."""
    for number, operator in enumerate(operators):
        if number % _BESIDE == 0:
            faster = pulse.faster(pulse.sample(threads), threads)
        try:
            few, many = (scaled(one, faster) for one in _seconds(target, weights, threads, seconds, operator))
        except BadInput:
            continue
        small, large = (rows * _WIDTH for rows in _ROWS)
        slope = max((many.value - few.value) / (large - small), _SLOPE * many.value / large)
        call = max(few.value - slope * small, dispatch)
        yield OperatorRate(
            operator=operator, threads=threads, call=_like(few, call), element=_like(many, slope)
        )


def _like(one: Interval, value: float) -> Interval:
    """`value`, as unsure as `one`."""
    return Interval(value=value, low=value * one.low / one.value, high=value * one.high / one.value)


def _seconds(
    target: Target, weights: Weights, threads: int, seconds: float, operator: str
) -> tuple[Interval, Interval]:
    """Of a node, of one row and of many."""
    rng = np.random.default_rng(0)
    feeds: list[dict[str, Any]] = [
        {
            "x": rng.standard_normal((rows, _WIDTH), np.float32),
            "other": rng.standard_normal((rows, _WIDTH), np.float32),
            "tokens": rng.integers(0, _TABLE, rows),
        }
        for rows in _ROWS
    ]
    times = list[list[list[float]]]()
    for count in (1, 1 + _NODES):
        graph = _chain(weights, operator, PROBES[operator], count)
        session = target.session(graph.write(weights.folder / "operator.onnx"), threads=threads)
        names = {spec.name for spec in session.get_inputs()}
        taken = [{name: feed[name] for name in names} for feed in feeds]
        times.append([repeated(functools.partial(session.run, None, feed), seconds) for feed in taken])
    few, many = (difference_of(longer, shorter, _NODES) for shorter, longer in zip(*times, strict=True))
    return few, many


def _chain(weights: Weights, operator: str, probe: Probe, count: int, width: int = _WIDTH) -> Graph:
    """`count` nodes, each of the one before it."""
    graph = Graph(weights)
    x = graph.input("x", np.float32, ["rows", width])
    for i in range(count):
        x = probe(graph, x, i)
    read = {name for node in graph.nodes for name in node.input}
    if "other" in read:
        graph.input("other", np.float32, ["rows", width])
    if "tokens" in read:
        graph.input("tokens", np.int64, ["rows"])
    graph.output(
        "y", np.float32, ["texts", "rows", width] if operator == "RotaryEmbedding" else ["rows", width]
    )
    graph.node("Neg", [x], ["y"])
    return graph
