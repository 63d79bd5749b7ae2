"""A rule: what the pass would change is what it finds."""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.lint import Finding, Subject, edited, rule


@rule("SAMPLE001", "relu-of-relu", "warning", mends=["relu-of-relu"])
def relu_of_relu(subject: Subject) -> Iterator[Finding]:
    """A Relu of a Relu changes nothing.

    It passes over the data once more.

    Leave one of them out, or let `--fix` do so.
    """
    return edited(subject, "relu-of-relu")
