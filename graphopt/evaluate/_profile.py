"""How long each node of a package takes, as onnxruntime's own profiler tells."""

from __future__ import annotations

import gc
import json
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._bindings import SEED
from graphopt.evaluate._calls import domain_of
from graphopt.families import meeting
from graphopt.package import RunnablePackage
from graphopt.runtime import context_length, with_options

__all__ = ["Traced", "profile", "traced"]

_PROMPT = 64
"""Tokens read at once: enough for the kernels of many rows."""
_STEPS = 8
"""Tokens written after them: as long as reading is, about, in a small model."""
_ROUNDS = 3
"""Of which the median counts: the least number in which one may be disturbed."""
_WARM = 2
"""Calls before: after the first, and the first step, the runtime has all memory that it wants."""
_MICROSECOND = 1e-6
"""The unit of onnxruntime's profile, which is a trace of Chrome's."""
_KERNEL = "_kernel_time"

K = TypeVar("K")


def profile(package: RunnablePackage, *, threads: int | None = None) -> dict[str, dict[str, float]]:
    """Seconds by name of each node of each of the package's graphs, by role.

    They are those of a prompt of 64 tokens and of 8 that are written after it where the model generates text,
    and else of one call on legal inputs of its family's: the median of three times, after calls that do not
    count. What a node takes does not contain what nodes of its subgraphs do. A profile says where time
    goes, not how much it is: profiling itself takes some. Nodes are named as the runtime names them, after
    its own optimizations.

    `BadInput` where no legal inputs are known, or sessions of the target are not to be profiled.
    """
    return {role: trace.by_node() for role, trace in traced(package, threads=threads).items()}


@dataclass(frozen=True)
class Traced:
    """What the runtime told of a session that ended with rounds of so many `calls`."""

    events: Sequence[Mapping[str, Any]]
    calls: int

    def by_node(self) -> dict[str, float]:
        """Seconds of each node, by name."""
        return _seconds(self.events, self.calls, lambda event: event["name"].removesuffix(_KERNEL))

    def by_operator(self) -> dict[tuple[str, str], float]:
        """Seconds by execution provider and operator, as they are named once the graph is loaded."""
        return _seconds(
            self.events, self.calls, lambda event: (event["args"]["provider"], event["args"]["op_name"])
        )

    def count(self, operators: Collection[str]) -> int:
        """How many nodes of `operators` ran."""
        return len({e["name"] for e in _kernels(self.events) if e["args"]["op_name"] in operators})


def traced(package: RunnablePackage, *, threads: int | None = None) -> dict[str, Traced]:
    """The traces behind `profile`, by role."""
    with tempfile.TemporaryDirectory() as scratch:
        opened: list[Path] = []

        def profiled(options: Any) -> None:
            opened.append(Path(scratch, f"{len(opened)}-"))
            options.enable_profiling = True
            options.profile_file_prefix = str(opened[-1])

        with with_options(profiled):
            calls = _decoded(package, threads) or _called(package, threads)
        gc.collect()  # a session writes its profile when nothing holds it any more
        if len(opened) != len(package.manifest.graphs):
            raise BadInput(f"sessions of target {package.manifest.target.name!r} cannot be profiled")
        found = {}
        for role, prefix in zip(package.manifest.graphs, opened, strict=True):
            (file,) = prefix.parent.glob(f"{prefix.name}*.json")
            found[role] = Traced(json.loads(file.read_text(encoding="utf-8")), calls)
    return found


def _decoded(package: RunnablePackage, threads: int | None) -> int:
    """Decode a text several times; how many calls one time is, or 0 where the package generates none."""
    graph = package.manifest.graphs.get("model")
    if graph is None or not graph.past():
        return 0
    session = package.session(threads=threads)
    room = context_length(package.path) or _PROMPT + _STEPS + 1
    prompt = min(_PROMPT, room // 2)
    steps = min(_STEPS, room - prompt - 1)
    length = prompt + steps + 1
    decoder = package.target().decoder(package.path, session, length=length, states=graph.states)
    tokens = np.random.default_rng(SEED).integers(1, decoder.vocabulary, prompt)
    for count in (_WARM - 1, *[steps] * _ROUNDS):
        decoder.reset()
        decoder.append(tokens)
        for _ in range(count):
            decoder.append(tokens[:1])
    return 1 + steps


def _called(package: RunnablePackage, threads: int | None) -> int:
    """Call a package that generates no text, each time as one call."""
    feeds = _legal_feeds(package)
    model = package.as_source(threads=threads)
    for _ in range(_WARM + _ROUNDS):
        model(feeds)
    return 1


def _legal_feeds(package: RunnablePackage) -> Mapping[str, Any]:
    domain = domain_of(package)
    if domain is None:
        raise BadInput(f"legal inputs of {package.path} are unknown", hint="Its nodes cannot be profiled.")
    cases = meeting(package.assumptions(), domain.cases(np.random.default_rng(SEED)))
    return max(cases, key=lambda case: sum(array.size for array in case.feeds.values())).feeds


def _kernels(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_KERNEL)]


def _seconds(
    events: Sequence[Mapping[str, Any]], calls: int, key: Callable[[Mapping[str, Any]], K]
) -> dict[K, float]:
    """Seconds by the `key` of nodes, from the trace of a session that ends with rounds of so many `calls`."""
    began = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    first = len(began) - calls * _ROUNDS
    found: dict[K, NDArray[np.float64]] = {}
    for event, own in _own_times(_kernels(events)):
        call = bisect_right(began, event["ts"]) - 1 - first
        if call >= 0:
            times = found.setdefault(key(event), np.zeros((_ROUNDS, calls)))
            times[divmod(call, calls)] += own
    return {name: float(np.median(times, axis=0).sum()) * _MICROSECOND for name, times in found.items()}


def _own_times(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], float]]:
    """Each event with its duration less that of those within it."""
    own = {id(event): float(event["dur"]) for event in events}
    around: list[Mapping[str, Any]] = []
    for event in sorted(events, key=lambda one: (one["ts"], -one["dur"])):
        while around and around[-1]["ts"] + around[-1]["dur"] <= event["ts"]:
            around.pop()
        if around:
            own[id(around[-1])] -= event["dur"]
        around.append(event)
    return ((event, max(own[id(event)], 0.0)) for event in events)
