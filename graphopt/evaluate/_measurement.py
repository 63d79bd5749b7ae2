"""What one process measured, and the numbers that are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

__all__ = ["Measurement"]


@dataclass(frozen=True)
class Measurement:
    """Seconds that one process took, each quantity as often as it took to measure it well; memory in bytes.

    `load_seconds` of every time the model was loaded, `first_seconds` to the first token of every text (or of
    the first call), `step_seconds` of the tokens after it, by text (or of calls, by groups of them),
    `batches` the tokens and seconds of each batch. `prompt_tokens` is 0 for a model that generates no text.
    """

    load_seconds: tuple[float, ...]
    first_seconds: tuple[float, ...]
    step_seconds: tuple[tuple[float, ...], ...]
    prompt_tokens: int
    peak_rss: int
    rss: int
    batches: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """From what a worker prints."""
        return cls(
            load_seconds=tuple(said["load_seconds"]),
            first_seconds=tuple(said["first_seconds"]),
            step_seconds=tuple(map(tuple, said["step_seconds"])),
            prompt_tokens=said["prompt_tokens"],
            peak_rss=said["peak_rss"],
            rss=said["rss"],
            batches=tuple((tokens, seconds) for tokens, seconds in said.get("batches", ())),
        )

    def metrics(self) -> dict[str, float]:
        """By key of `graphopt.metrics.METRICS`, what was measured of them: medians inside the process.

        Steps are put together for percentiles; a rate is that of the median text (or group of calls).
        """
        generates = self.prompt_tokens > 0
        found = {
            "load_time": _median(self.load_seconds),
            "memory": float(self.rss),
            "peak_memory": float(self.peak_rss),
        }
        if self.first_seconds:
            first = _median(self.first_seconds)
            found["ttft" if generates else "first_call_time"] = first
            if generates:
                found["prefill_tokens_per_second"] = self.prompt_tokens / first
        if self.step_seconds:
            steps = np.concatenate([np.asarray(text) for text in self.step_seconds])
            step = "tpot" if generates else "call_time"
            found[step], found[f"{step}_p90"] = (float(p) for p in np.percentile(steps, [50, 90]))
            rate = "decode_tokens_per_second" if generates else "calls_per_second"
            found[rate] = _median([len(text) / sum(text) for text in self.step_seconds])
        if self.batches:
            found["batch_tokens_per_second"] = _median([tokens / seconds for tokens, seconds in self.batches])
        return found


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))
