"""What rules look at: the graphs of a file or a folder, and what passes would do to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx_ir as ir

from graphopt.targets import Capabilities, Target

__all__ = ["LintedGraph", "Subject", "Trial", "TrialEdit", "TrialMiss"]


@dataclass(frozen=True)
class TrialEdit:
    """An edit that the pass `name` makes on a copy of the graph.

    `nodes` are those of the graph as it is that it takes away, or what became of these in passes before.
    """

    name: str
    summary: str
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class TrialMiss:
    """A place where the pass `name` almost matched on a copy of the graph: a node, and why it did not."""

    name: str
    where: str
    reason: str


@dataclass(frozen=True)
class Trial:
    """What passes do to a copy of a graph, in order, and where they almost do something."""

    edits: Sequence[TrialEdit]
    misses: Sequence[TrialMiss]


@dataclass(frozen=True, eq=False)
class LintedGraph:
    """A graph with its types inferred, in `file`. `run` runs the passes that mend on a copy of it."""

    file: str
    model: ir.Model
    run: Callable[[], Trial]

    @cached_property
    def trial(self) -> Trial:
        """What the passes that mend would do to it."""
        return self.run()


@dataclass(frozen=True, eq=False)
class Subject:
    """An .onnx file, or the folder of a package, and the target that it is to run on.

    `settings` are what the folder's genai_config.json says, where it has one.
    """

    target: Target
    graphs: tuple[LintedGraph, ...]
    settings: Mapping[str, Any] | None = None

    @cached_property
    def capabilities(self) -> Capabilities:
        return self.target.capabilities()
