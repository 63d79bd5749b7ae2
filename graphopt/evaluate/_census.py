"""The operators of a package, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from graphopt.ir import load_model
from graphopt.ir.operators import KERNEL_CHOOSING
from graphopt.package import RunnablePackage

__all__ = ["census", "census_differences", "census_of"]


def census(package: RunnablePackage) -> Counter[str]:
    """How many nodes of each kind `package` has, all graphs and their subgraphs together.

    A kind is an operator, and the attributes that choose among its kernels where they are not what is meant
    without them: "com.microsoft::MatMulNBits with accuracy_level 4, block_size 32". Weights are not read.
    """
    return census_of(load_model(package.path / g.file) for g in package.manifest.graphs.values())


def census_of(models: Iterable[ir.Model]) -> Counter[str]:
    """The same of graphs at hand; bodies of functions count once."""
    return Counter(
        kind_of(node)
        for model in models
        for nodes in (model.graph.all_nodes(), *(f.all_nodes() for f in model.functions.values()))
        for node in nodes
    )


def census_differences(ours: Mapping[str, int], theirs: Mapping[str, int]) -> list[str]:
    """What a census has that its baseline's, `theirs`, has not: "KIND: theirs -> ours", the largest first."""
    changed = [kind for kind in {*ours, *theirs} if ours.get(kind, 0) != theirs.get(kind, 0)]
    changed.sort(key=lambda kind: (-abs(ours.get(kind, 0) - theirs.get(kind, 0)), kind))
    return [f"{kind}: {theirs.get(kind, 0)} -> {ours.get(kind, 0)}" for kind in changed]


def kind_of(node: ir.Node) -> str:
    """Its operator, with the domain where that is not ONNX's, and what chooses its kernel."""
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}::"
    said = [
        f"{name} {_plain(node.attributes[name].value)}"
        for name, default in KERNEL_CHOOSING.items()
        if name in node.attributes
        and not node.attributes[name].is_ref()
        and _plain(node.attributes[name].value) != default
    ]
    return f"{domain}{node.op_type}{' with ' if said else ''}{', '.join(said)}"


def _plain(value: object) -> object:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
