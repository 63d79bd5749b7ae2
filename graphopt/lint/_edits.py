"""Rules that ask a pass: what it would change is what they find."""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.ir import node_name
from graphopt.lint._rule import Finding
from graphopt.lint._subject import LintedGraph, Subject, TrialEdit

__all__ = ["edited", "edits_of"]


def edited(subject: Subject, *passes: str) -> Iterator[Finding]:
    """Each place where one of the passes called so would make an edit."""
    for graph in subject.graphs:
        for edit in edits_of(graph, *passes):
            yield Finding(graph.file, node_name(edit.nodes[0]) if edit.nodes else "", edit.summary)


def edits_of(graph: LintedGraph, *passes: str) -> Iterator[TrialEdit]:
    """What the passes called so would do to `graph`."""
    return (edit for edit in graph.trial.edits if edit.name in passes)
