"""What nodes of a decoder cost one another, beyond what each takes among its like."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphopt.cost._decoder import DecoderShape, decoder_work
from graphopt.cost._forms import with_forms
from graphopt.cost._joined import joined
from graphopt.cost._rates import Rates, Taken, reread
from graphopt.cost._work import FLOAT, Call, GraphWork, NodeWork
from graphopt.machine import DecoderRate, Profile

__all__ = ["Between"]

TABLE = "between nodes"
_MOSTLY = 0.5
_UNSURE = 0.5
"""Standard deviation of its logarithm. A judgement."""


@dataclass(frozen=True)
class Between:
    """Seconds that each product or attention takes longer in a decoder than among its like: `each` of those
    whose bytes come from memory, and `reading` times what reading them takes; `cached` of others.

    The decoders that are measured have weights in blocks. Products of floats out of memory read it at two
    thirds of its speed and do not come to feel what lies between them: of them nothing is added.

    A profile measures equal nodes one after the other, so that code, prefetching and what lies between two
    weights are the best there are. Whole decoders that it measures, too, say what that leaves out.
    """

    each: float = 0.0
    reading: float = 0.0
    cached: float = 0.0

    @classmethod
    def of(cls, profile: Profile, threads: int) -> Between:
        """That of this profile, solved once."""
        key = (id(profile), threads)
        if key not in _MADE:
            _MADE[key] = _solved(profile, threads)
            weakref.finalize(profile, _MADE.pop, key, None)
        return _MADE[key]

    def taken(self, nodes: Iterable[tuple[NodeWork, Taken]], share: float, pace: float) -> Taken:
        """Of a call of which `share` comes from memory; the rest takes `pace` times as long as measured."""
        ours = [(node, one) for node, one in nodes if _counts(node)]
        felt = [one.reading for node, one in ours if node.product is None or node.product.bits < FLOAT]
        streamed = len(felt) * self.each + self.reading * sum(felt)
        seconds = share * streamed + (1 - share) * len(ours) * self.cached * pace
        return Taken(seconds, _UNSURE, 0.0, 0.0, 0.0, TABLE)


_MADE: dict[tuple[int, int], Between] = {}


def _counts(node: NodeWork) -> bool:
    return node.product is not None or node.attention is not None


def _solved(profile: Profile, threads: int) -> Between:
    """Least squares without negative parts, of what each decoder takes beyond its nodes, relative to it."""
    from scipy.optimize import nnls

    streamed, cached = list[list[float]](), list[float]()
    loop = profile.loop[threads].value if threads in profile.loop else 0.0
    for one in profile.decoders:
        if one.threads != threads:
            continue
        work, call = _work(one), Call(1, 1, one.past)
        rates = Rates(profile, threads, None, reread(work, call))
        nodes = [(node, rates.of(node, call)) for node in joined(work, profile.identity)]
        ours = [taken for node, taken in nodes if _counts(node)]
        beyond = one.seconds.value - loop - sum(taken.seconds for _, taken in nodes)
        if rates.from_memory > _MOSTLY:
            parts = (len(ours), sum(taken.reading for taken in ours), beyond)
            streamed.append([part / one.seconds.value for part in parts])
        else:
            cached.append(max(beyond, 0.0) / len(ours))
    rows = np.array(streamed).reshape(-1, 3)
    each, reading = nnls(rows[:, :2], rows[:, 2])[0] if len(rows) else (0.0, 0.0)
    return Between(float(each), float(reading), float(np.median(cached)) if cached else 0.0)


def _work(one: DecoderRate) -> GraphWork:
    shape = DecoderShape(
        vocabulary=one.vocabulary,
        hidden=one.width,
        ffn=one.inner,
        layers=one.layers,
        heads=one.heads,
        kv_heads=one.kv_heads,
        head_size=one.head_size,
        positions=one.past + 1,
        tied=False,
    )
    work = decoder_work(shape)
    names = {node.product.name for node in work.nodes if node.product is not None and node.product.name}
    return with_forms(work, dict.fromkeys(names, f"{one.bits}/{one.block}"))
