"""Points that were measured, and what a profile says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx_ir as ir

from graphopt.cost import (
    Call,
    GraphWork,
    Heads,
    NodeWork,
    Product,
    Situation,
    Use,
    Weight,
    call_of,
    predict,
    work_of,
)
from graphopt.machine import Interval, Profile

Point = dict[str, Any]


@cache
def work(package: Path) -> GraphWork:
    return work_of(ir.load(package / "model.onnx"))


def without(profile: Profile, works: Sequence[GraphWork]) -> Profile:
    """The profile less all products and attentions of sizes that these graphs have."""
    sizes = {(n.product.k, n.product.n) for one in works for n in one.nodes if n.product}
    heads = {
        (n.attention.heads, n.attention.kv_heads, n.attention.head_size)
        for one in works
        for n in one.nodes
        if n.attention
    }
    return profile.model_copy(
        update={
            "products": tuple(p for p in profile.products if (p.k, p.n) not in sizes),
            "attention": tuple(
                a for a in profile.attention if (a.heads, a.kv_heads, a.head_size) not in heads
            ),
        }
    )


@dataclass(frozen=True)
class Told:
    """A metric of a point: predicted, from the stored profile alone, without its sizes, and measured."""

    point: Point
    metric: str
    predicted: Interval
    stored: Interval
    left_out: Interval
    measured: float

    @property
    def error(self) -> float:
        return off(self.predicted, self.measured)

    @property
    def name(self) -> str:
        p = self.point
        return f"{p['recipe']}, {p['batch']} x {p['prompt']}, {p['threads']} threads"


def off(predicted: Interval, measured: float) -> float:
    """Percent."""
    return 100 * (predicted.value / measured - 1)


def held(predicted: Interval, measured: float) -> bool:
    return predicted.low <= measured <= predicted.high


def told(profile: Profile, points: Sequence[Point], folder: Path) -> Iterator[Told]:
    for shape in dict.fromkeys(p["shape"] for p in points):
        ours = [p for p in points if p["shape"] == shape]
        works = [work(folder / shape / recipe) for recipe in {p["recipe"] for p in ours}]
        without_ours = without(profile, works)
        for p in ours:
            one = work(folder / shape / p["recipe"])
            for metric, probe in (("tpot", "bandwidth"), ("ttft", "bandwidth_prompt")):
                known = Situation(p["prompt"], p["new"], p["batch"], p["threads"], p[probe], p["pulse"])
                stored = Situation(p["prompt"], p["new"], p["batch"], p["threads"])
                yield Told(
                    p,
                    metric,
                    predict(one, profile, known).metrics[metric],
                    predict(one, profile, stored).metrics[metric],
                    predict(one, without_ours, known).metrics[metric],
                    p[metric],
                )


def cheap_told(profile: Profile, points: Sequence[Point]) -> Iterator[tuple[Point, Interval]]:
    bare = profile.model_copy(update={"loop": {}})
    for p in points:
        nodes, call = [], Call(1, p["rows"], p.get("past", 0))
        for i in range(p["copies"]):
            if p["kind"] == "product":
                form = p["bits"], p["block"], p["zeros"], p["bytes"]
                one = Product(f"w{i}", p["k"], p["n"], *form)
                uses = (Use(one.name, one.bytes),)
                nodes.append(NodeWork(one.name, "MatMulNBits", "product", weights=uses, product=one))
            else:
                heads = Heads(p["heads"], p["kv_heads"], p["head_size"], p["cache_bits"])
                nodes.append(NodeWork(f"{i}", "GroupQueryAttention", "attention", attention=heads))
        weights = tuple(Weight(use.name, (), 8, use.bytes) for node in nodes for use in node.weights)
        situation = Situation(1, 1, 1, p["threads"], p["bandwidth"], p["pulse"])
        whole = call_of(GraphWork(tuple(nodes), 1, weights), bare, call, situation).seconds
        yield p, Interval(**{name: one / p["copies"] for name, one in whole.model_dump().items()})
