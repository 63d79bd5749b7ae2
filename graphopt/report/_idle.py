"""Compression that changed nothing: what a recipe is for should not fail to happen without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from graphopt.pipeline import Level, PassRecord

__all__ = ["idle_stages"]

_REASONS = 3
"""The most frequent ones: a note is to be read, and a large model has as many reasons as layers."""
_COMPRESS = Level.COMPRESS.name.lower()


def idle_stages(runs: Iterable[Sequence[PassRecord]]) -> list[str]:
    """A sentence for each stage of compression that changed nothing in any of the `runs`, one for each graph.

    Compressing steps that follow each other are one stage: what one of them leaves is for the next.
    """
    stages: dict[tuple[str, ...], list[PassRecord]] = {}
    for records in runs:
        for compresses, steps in groupby(records, lambda record: record.level == _COMPRESS):
            if compresses:
                stage = list(steps)
                stages.setdefault(tuple(record.step for record in stage), []).extend(stage)
    return [
        f"Nothing was compressed by {' or '.join(names)}: {_why(steps)}."
        for names, steps in stages.items()
        if not any(record.applied for record in steps)
    ]


def _why(records: Sequence[PassRecord]) -> str:
    skipped: dict[str, list[str]] = {}
    for record in records:
        if record.skipped:
            skipped.setdefault(record.skipped, []).append(record.step)
    reasons = Counter(f"{', '.join(steps)} did not run: {reason}" for reason, steps in skipped.items())
    reasons.update(reason for record in records for reason in _reasons(record))
    if not reasons:
        return "there is nothing in the model that it takes"
    told = [
        f"{reason} ({count} times)" if count > 1 else reason
        for reason, count in reasons.most_common(_REASONS)
    ]
    left = len(reasons) - len(told)
    return "; ".join([*told, *([f"and {left} more reasons"] if left else [])])


def _reasons(record: PassRecord) -> Iterator[str]:
    yield from (miss.reason for miss in record.near_misses)
    yield from (edit.reason for edit in record.edits if edit.reason)
