"""Times of a graph on a machine: the sum of what its nodes take there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphopt.cost._between import Between
from graphopt.cost._joined import joined
from graphopt.cost._load import load_time
from graphopt.cost._package import package_bytes, weight_bytes
from graphopt.cost._peak import peak_memory
from graphopt.cost._prediction import Bound, Prediction, Situation
from graphopt.cost._queue import queue_of
from graphopt.cost._rates import Rates, Taken, reread
from graphopt.cost._tables import sd_of, spread
from graphopt.cost._work import Call, GraphWork, NodeWork, Product, Use
from graphopt.machine import Interval, Profile

__all__ = ["Step", "call_of", "predict", "product_seconds"]

_POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the tokens that are written: where their time is told."""
_LATE = 0.9
_NAMED = 0.01
"""Share of a call from which on it is said that something of it was not measured."""
LOOP = "the decode loop"


@dataclass(frozen=True)
class Step:
    """One call of a graph: its seconds, and its parts by class of operators."""

    seconds: Interval
    parts: Mapping[str, Bound]
    widened: tuple[str, ...] = ()


def predict(work: GraphWork, profile: Profile, situation: Situation) -> Prediction:
    """What `situation` takes of a graph's `work` on the machine of `profile`.

    Times are sums over nodes of what the profile measured of such a product, attention or operator, between
    its sizes by interpolation. What is streamed from memory moves with `situation.bandwidth`, and what few
    rows meet in a cache with `situation.pulse`. Of a machine that is only cited they are bytes over bandwidth
    or operations over peak, whichever is more. Intervals hold nine of ten measurements: they come from what
    the profile saw vary, from the distance to what was measured, and from how far equal runs differ. Nothing
    is fitted to models.

    Where nodes of `work` are unknown there are no times, and `Prediction.unknown` names them.
    """
    sizes = {"package_bytes": package_bytes(work), "weight_bytes": weight_bytes(work)}
    metrics = {key: Interval(value=size, low=size, high=size) for key, size in sizes.items()}
    if work.unknown:
        return Prediction(metrics, {}, {}, unknown=work.unknown)
    prompt = call_of(work, profile, Call(situation.batch, situation.prompt, 0), situation)
    pasts = sorted({situation.prompt + round(share * situation.new) for share in (*_POSITIONS, _LATE)})
    steps = {past: call_of(work, profile, Call(situation.batch, 1, past), situation) for past in pasts}
    middle = steps[situation.prompt + round(situation.new / 2)]
    late = steps[situation.prompt + round(_LATE * situation.new)]
    tokens = situation.batch * situation.prompt
    metrics["ttft"] = prompt.seconds
    metrics["tpot"] = middle.seconds
    metrics["tpot_p90"] = late.seconds
    metrics["prefill_tokens_per_second"] = _over(tokens, prompt.seconds)
    rate = _over(situation.batch, middle.seconds)
    metrics["decode_tokens_per_second"] = metrics["batch_tokens_per_second"] = rate
    if profile.session is not None and profile.opening is not None:
        metrics["load_time"] = _load_time(work, profile)
    metrics["peak_memory"] = peak_memory(work, profile, situation)
    queue = None
    if situation.utilisation is not None:
        service = prompt.seconds.value + situation.new * middle.seconds.value
        queue = queue_of(situation.batch, service, situation.utilisation)
    widened = tuple(dict.fromkeys((*prompt.widened, *middle.widened)))
    positions = {past: step.seconds for past, step in steps.items()}
    return Prediction(metrics, middle.parts, prompt.parts, widened, (), positions, queue)


def call_of(work: GraphWork, profile: Profile, call: Call, situation: Situation) -> Step:
    """One call of a graph whose nodes are all known."""
    rates = Rates(profile, situation.threads, situation.bandwidth, reread(work, call), situation.pulse)
    taken = [(node, rates.of(node, call)) for node in joined(work, profile.identity)]
    widened = _widened([one for _, one in taken])
    if rates.threads_sd:
        widened.append(f"{situation.threads} threads were not measured: times are those of {rates.threads}")
    loop = profile.loop.get(rates.threads)
    everything = [one for _, one in taken]
    pace = rates.pace(call)
    between = Between.of(profile, rates.threads).taken(taken, rates.from_memory, pace)
    if between.seconds:
        everything.append(between)
    if loop is not None:
        everything.append(Taken(pace * loop.value, sd_of(loop), 0.0, 0.0, 0.0, LOOP))
    shared = _shared(profile, rates)
    classes: dict[str, list[Taken]] = {}
    for node, one in taken:
        classes.setdefault(_class(node), []).append(one)
    parts = {name: _bound(rates, name, ones, shared) for name, ones in classes.items()}
    return Step(_sum(everything, rates, shared), parts, tuple(dict.fromkeys(widened)))


def _widened(taken: Sequence[Taken]) -> list[str]:
    """Why times are less sure, of what takes more than a hundredth of all."""
    seconds: dict[str, float] = {}
    for one in taken:
        seconds[one.widened] = seconds.get(one.widened, 0.0) + one.seconds
    whole = sum(seconds.values())
    return [reason for reason, part in seconds.items() if reason and part > _NAMED * whole]


def product_seconds(
    profile: Profile, product: Product, *, rows: int = 1, threads: int | None = None
) -> Interval:
    """What one product of a model that exceeds the caches takes: `rows` rows, the weight from memory.

    `threads` None: the most that were measured.
    """
    threads = max(profile.tiers[-1].read) if threads is None else threads
    rates = Rates(profile, threads, None, math.inf)
    use = Use(product.name, product.bytes)
    node = NodeWork(product.name, "", "product", weights=(use,), product=replace(product, rows=("batch",)))
    taken = rates.of(node, Call(batch=rows))
    return _sum([taken], rates, _shared(profile, rates))


def _sum(taken: Sequence[Taken], rates: Rates, shared: float) -> Interval:
    """Of seconds that were read from one table the errors add up, of those from several their squares do."""
    seconds = sum(one.seconds for one in taken)
    tables: dict[str, float] = {}
    for one in taken:
        tables[one.table] = tables.get(one.table, 0.0) + one.seconds * one.sd
    memory = rates.memory_sd * sum(one.reading for one in taken)
    squares = sum(error**2 for error in tables.values()) + memory**2
    return spread(seconds, math.hypot(math.sqrt(squares) / seconds, shared))


def _shared(profile: Profile, rates: Rates) -> float:
    """The standard deviation that equal runs differ by, and what another number of threads adds."""
    noise = 0.0 if profile.noise is None else sd_of(profile.noise)
    return math.hypot(noise, rates.threads_sd)


def _bound(rates: Rates, name: str, taken: Sequence[Taken], shared: float) -> Bound:
    size, flops = sum(one.bytes for one in taken), sum(one.flops for one in taken)
    kind = "int8" if "Bits" in name else "fp32"
    return Bound(_sum(taken, rates, shared), size, flops, *rates.bound(size, flops, kind))


def _class(node: NodeWork) -> str:
    if node.product is None:
        return node.operator
    form = f"{node.product.bits}" + (f"/{node.product.block}" if node.product.block else "")
    return f"{node.operator} {form}"


def _over(count: int, seconds: Interval) -> Interval:
    return Interval(value=count / seconds.value, low=count / seconds.high, high=count / seconds.low)


def _load_time(work: GraphWork, profile: Profile) -> Interval:
    assert profile.session is not None
    assert profile.opening is not None
    return load_time(work, profile.session, profile.opening)
