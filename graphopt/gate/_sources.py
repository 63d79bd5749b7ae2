"""Which measurement a metric comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphopt.evaluate import FACTS, HEAD_METRICS, TASK_METRICS, TEXT_GENERATION

__all__ = ["Wanted"]

_SPEED = frozenset(
    {
        *("load_time", "ttft", "tpot", "tpot_p90", "prefill_tokens_per_second", "decode_tokens_per_second"),
        *("first_call_time", "call_time", "call_time_p90", "calls_per_second", "batch_tokens_per_second"),
        *("memory", "peak_memory"),
    }
)
_OF_TOKENS = frozenset({"top1_agreement", "flips_lost", "flips_won"})
"""Of heads' metrics those that are of tokens where text is generated."""


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
        heads = keys & (HEAD_METRICS - _OF_TOKENS if task == TEXT_GENERATION else HEAD_METRICS)
        elsewhere = heads | facts | _SPEED | TASK_METRICS
        return cls(keys & facts, keys - elsewhere, heads, keys & TASK_METRICS, keys & _SPEED)
