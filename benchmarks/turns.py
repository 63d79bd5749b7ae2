"""How far processes that measure the same package are apart, and what more work in each of them gives.

    python benchmarks/turns.py PACKAGE [--blocks 12]

By metric: the coefficient of variation of processes within a block (which a gate sees) and of all of them
(which drift adds to), the standard deviation of a block's A/A log ratio, and after how many blocks the 95 %
interval of a ratio would be as narrow as 2 and 5 % either side. Then the same of the rate of steps with the
first text of each process alone, two of them, and so on; of the best text, the fastest prompt and the first
time the model was loaded, in place of medians. Figures are of the machine as it is: a busy one
says little.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from graphopt.evaluate import Measurable, Measurement, SpeedTurns

Floats = NDArray[np.float64]
Number = Callable[[Measurement], float]

_MARGINS = (0.02, 0.05)
_MOST_BLOCKS = 999


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--blocks", type=int, default=12)
    args = parser.parse_args()
    metrics = sorted(Measurable(args.package).metrics)
    turns = SpeedTurns(args.package, args.package, metrics=metrics, say=lambda text: print(text, flush=True))
    for _ in range(args.blocks):
        turns.add_block()
    print(f"{turns.seconds / turns.blocks:.1f} s a block of {len(turns.measurements) * 2} processes")
    print(f"{'':32} within     all   A/A sd   blocks for ±2 %, ±5 %")
    for metric in metrics:
        _print(metric, turns, lambda m, key=metric: m.metrics()[key])
    texts = min(len(m.step_seconds) for side in turns.measurements.values() for b in side for m in b)
    for count in sorted({*(2**n for n in range(8) if 2**n <= texts), texts}):
        _print(f"steps, {count} texts a process", turns, lambda m, n=count: _rate(m, n))
    _print("steps, best text", turns, lambda m: max(len(text) / sum(text) for text in m.step_seconds))
    _print("first token, fastest prompt", turns, lambda m: min(m.first_seconds))
    _print("loading once", turns, lambda m: m.load_seconds[0])


def _rate(found: Measurement, texts: int) -> float:
    few = replace(found, step_seconds=found.step_seconds[:texts]).metrics()
    return few.get("decode_tokens_per_second", few.get("calls_per_second", np.nan))


def _print(name: str, turns: SpeedTurns, number: Number) -> None:
    logs = {
        side: np.log([[number(m) for m in block] for block in blocks])
        for side, blocks in turns.measurements.items()
    }
    every = np.concatenate(list(logs.values()), axis=1)
    within = float(np.sqrt(every.var(axis=1, ddof=1).mean()))
    apart = float((logs["package"].mean(1) - logs["control"].mean(1)).std(ddof=1))
    needed = "  ".join(str(_blocks(apart, margin)) for margin in _MARGINS)
    print(f"{name:32} {within:6.1%} {float(every.std(ddof=1)):7.1%} {apart:8.1%}   {needed}")


def _blocks(deviation: float, margin: float) -> int:
    """After how many blocks Student's interval of their mean is `margin` either side of it."""
    for count in range(2, _MOST_BLOCKS):
        if float(stats.t.ppf(0.975, count - 1)) * deviation / np.sqrt(count) <= np.log1p(margin):
            return count
    return _MOST_BLOCKS


if __name__ == "__main__":
    main()
