"""Which measurement a metric comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphopt.evaluate import FACTS, TEXT_GENERATION

__all__ = ["Wanted"]

_SPEED = frozenset(
    {
        *("load_time", "ttft", "tpot", "tpot_p90", "prefill_tokens_per_second", "decode_tokens_per_second"),
        *("first_call_time", "call_time", "call_time_p90", "calls_per_second", "batch_tokens_per_second"),
        *("memory", "peak_memory"),
    }
)
_HEADS = frozenset({"label_agreement", "top5_agreement", "span_agreement", "mean_average_precision"})
_HEADS_ELSE = frozenset({"top1_agreement", "flips_lost", "flips_won"})
"""Of tokens where text is generated, of labels elsewhere."""
_TASKS = frozenset({"task_accuracy"})


@dataclass(frozen=True)
class Wanted:
    """Keys of metrics by what measures them."""

    facts: frozenset[str]
    accuracy: frozenset[str]
    heads: frozenset[str]
    tasks: frozenset[str]
    speed: frozenset[str]

    @classmethod
    def of(cls, metrics: Iterable[str], task: str) -> Wanted:
        """`metrics` of a package for `task`."""
        keys, facts = frozenset(metrics), frozenset(FACTS)
        heads = keys & (_HEADS if task == TEXT_GENERATION else _HEADS | _HEADS_ELSE)
        elsewhere = heads | facts | _SPEED | _TASKS
        return cls(keys & facts, keys - elsewhere, heads, keys & _TASKS, keys & _SPEED)
