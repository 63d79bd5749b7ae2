"""What is true of a package whatever the machine: sizes, counts and interface."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from pathlib import Path

import onnx
import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.evaluate._assignment import fallback_nodes
from graphopt.evaluate._census import census_differences, census_of
from graphopt.evaluate._costs import Cost, step_cost
from graphopt.evaluate._interface_changes import interface_differences, optional_inputs
from graphopt.evaluate._stored_bits import bits_a_weight
from graphopt.interface import Interface
from graphopt.ir import infer_types, load_model
from graphopt.metrics import Exact, Sample
from graphopt.package import RunnablePackage
from graphopt.pipeline import weight_bytes

__all__ = ["FACTS", "interface_changes", "measure_facts"]


def measure_facts(
    package: RunnablePackage, baseline: RunnablePackage | None, *, metrics: Collection[str]
) -> tuple[Sample, ...]:
    """Those of `metrics` that are `FACTS`, of `package` and of `baseline`, in the order of `FACTS`.

    Chance has no part in them, no weight is read, and nothing is run; `fallback_nodes` opens a session, where
    the target is not onnxruntime's CPU provider. Of a package of several graphs they are sums, `*_per_token`
    those of the graphs that are called for every token: the ones with a cache, if any has.

    Raises `BadInput` for changes without a `baseline` to have changed from.
    """
    ours = _Facts(package)
    theirs = None if baseline is None else _Facts(baseline)
    found = []
    for metric, value in _VALUES.items():
        if metric in metrics:
            found.append(Sample(metric, Exact(value(ours), None if theirs is None else value(theirs))))
    for metric, changes in _CHANGES.items():
        if metric in metrics:
            if theirs is None:
                raise BadInput(f"{metric} needs a package to have changed from", hint="Give --baseline.")
            found.append(Sample(metric, Exact(float(len(changes(ours, theirs))))))
    return tuple(found)


def interface_changes(package: RunnablePackage, baseline: RunnablePackage) -> list[str]:
    """What of the interface of any graph is not the baseline's, in words."""
    return _interface_changes(_Facts(package), _Facts(baseline))


class _Facts:
    """A package's graphs, loaded when they are first asked for."""

    def __init__(self, package: RunnablePackage) -> None:
        self.package = package

    @cached_property
    def models(self) -> dict[str, ir.Model]:
        """By role, with every shape that onnx can infer."""
        graphs = self.package.manifest.graphs
        models = {role: load_model(self.package.path / graph.file) for role, graph in graphs.items()}
        for model in models.values():
            infer_types(model)
        return models

    @cached_property
    def step(self) -> Cost:
        """Of one call of every graph that is called for each token."""
        graphs = self.package.manifest.graphs
        decoding = [role for role, graph in graphs.items() if graph.past()] or list(graphs)
        costs = [
            step_cost(self.models[role], _layouts(self.package.path / graphs[role].file)) for role in decoding
        ]
        return Cost(sum(cost.bytes for cost in costs), sum(cost.flops for cost in costs))


def _layouts(path: Path) -> Mapping[str, int]:
    """Bytes by weight of the layouts for kernels that are stored beside weights: see `graphopt.package`."""
    if b"prepacked_" not in path.read_bytes():
        return {}
    found = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        layouts = [e.value.split("|")[1:] for e in tensor.external_data if e.key.startswith("prepacked_")]
        if layouts:
            found[tensor.name] = sum(int(part.split(";")[1]) for parts in layouts for part in parts)
    return found


def _package_bytes(facts: _Facts) -> float:
    return float(sum(path.stat().st_size for path in facts.package.path.rglob("*") if path.is_file()))


def _nodes(facts: _Facts) -> float:
    return float(sum(1 for model in facts.models.values() for _ in model.graph.all_nodes()))


_VALUES: dict[str, Callable[[_Facts], float]] = {
    "package_bytes": _package_bytes,
    "weight_bytes": lambda facts: float(sum(map(weight_bytes, facts.models.values()))),
    "bpw": lambda facts: bits_a_weight(facts.models.values()),
    "nodes": _nodes,
    "fallback_nodes": lambda facts: float(len(fallback_nodes(facts.package))),
    "bytes_per_token": lambda facts: float(facts.step.bytes),
    "flops_per_token": lambda facts: float(facts.step.flops),
}


def _census_changes(ours: _Facts, theirs: _Facts) -> list[str]:
    return census_differences(census_of(ours.models.values()), census_of(theirs.models.values()))


def _interface_changes(ours: _Facts, theirs: _Facts) -> list[str]:
    found = []
    for role, model in theirs.models.items():
        whose = "" if role == "model" else f"{role}: "
        if role not in ours.models:
            found.append(f"the graph {role} is gone")
            continue
        mine = ours.models[role]
        said = interface_differences(Interface.of(mine), Interface.of(model))
        given = {value.name for value in mine.graph.inputs}
        said += [f"input {name} is gone" for name in optional_inputs(model) if name not in given]
        found += [whose + sentence for sentence in said]
    return found + [f"the graph {role} is new" for role in ours.models if role not in theirs.models]


_CHANGES: dict[str, Callable[[_Facts, _Facts], list[str]]] = {
    "census_changes": _census_changes,
    "interface_changes": _interface_changes,
}

FACTS = (*_VALUES, *_CHANGES)
"""The metrics that `measure_facts` knows."""
