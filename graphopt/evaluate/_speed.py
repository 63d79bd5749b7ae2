"""Speed and memory of a package, alone or beside another's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from graphopt.evaluate._blocks import BASELINE, CONTROL, PACKAGE, Blocks
from graphopt.evaluate._foretold import Foretold
from graphopt.evaluate._measurable import SPEED_METRICS, words
from graphopt.metrics import Estimate, Turns, control, estimate

__all__ = ["BenchReport", "Price", "Speed", "bench", "bench_on"]


@dataclass(frozen=True)
class Speed:
    """A package's measurements in `rounds` blocks of two processes, put together with their interval.

    `metrics` are by key of `graphopt.metrics.METRICS`: load_time, memory, peak_memory, and of a model that
    generates text ttft, tpot, tpot_p90, prefill_tokens_per_second, decode_tokens_per_second, of others
    first_call_time, call_time, call_time_p90, calls_per_second.
    """

    rounds: int
    metrics: dict[str, Estimate]

    @property
    def generates(self) -> bool:
        return "ttft" in self.metrics

    @property
    def throughput(self) -> Estimate:
        """Tokens a second in decoding, or calls a second."""
        return self.metrics["decode_tokens_per_second" if self.generates else "calls_per_second"]


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens read and a million written, on a machine of this price an hour."""

    per_hour: float
    per_million_in: float
    per_million_out: float


@dataclass(frozen=True)
class BenchReport:
    """One package's speed and, beside another's, the speedups: how many times as fast the package is.

    `throughput_speedup` is of decoding (or of calls), `first_speedup` of the first token (or call); `control`
    is what the former comes to where both are the package itself: how far from 1 chance goes (an A/A test).
    Intervals are those of `graphopt.metrics.estimate`: of a single round nothing is known; they are infinite.
    `foretold` is what the profile of this machine says, where there is one.
    """

    package: str
    speed: Speed
    against: str | None = None
    other: Speed | None = None
    throughput_speedup: Estimate | None = None
    first_speedup: Estimate | None = None
    control: Estimate | None = None
    price: Price | None = None
    foretold: Foretold | None = None

    def to_json(self) -> dict[str, Any]:
        found = asdict(replace(self, foretold=None))
        if self.foretold is not None:
            predicted = {metric: one.model_dump() for metric, one in self.foretold.predicted.items()}
            found["foretold"] = asdict(replace(self.foretold, predicted={})) | {"predicted": predicted}
        return found


def bench(
    package: str | Path,
    *,
    against: str | Path | None = None,
    inputs: str | Path | None = None,
    **options: Any,
) -> BenchReport:
    """Measure `package` in `rounds` blocks of fresh processes, two in each; with `against`, that in turns
    with it, and the package once more as a control.

    Options are `prompt_tokens` 256, `new_tokens` 64 (or calls, at most), `rounds` 5, `price` in dollars an
    hour and `threads` (default: what this process may use). `inputs` is an .npz file of feeds for a model
    that does not generate text. Raises `BadInput` for inputs that do not fit, `EnvironmentProblem` with the
    worker's last words where a process dies.
    """
    given = None if inputs is None else Path(inputs)
    return bench_on(package, against, lambda _: given, lambda: None, **options)


def bench_on(
    package: str | Path,
    against: str | Path | None,
    inputs: Callable[[str | Path], Path | None],
    look: Callable[[], None],
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 64,
    rounds: int = 5,
    price: float | None = None,
    threads: int | None = None,
) -> BenchReport:
    """`bench` with `inputs` by folder; `look` is called between processes."""
    folders = {PACKAGE: package}
    if against is not None:
        folders |= {BASELINE: against, CONTROL: package}
    sides = {
        side: words(
            folder,
            SPEED_METRICS,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            batch=1,
            inputs=inputs(folder),
            threads=threads,
        )
        for side, folder in folders.items()
    }
    blocks = Blocks(sides, look)
    for _ in range(rounds):
        blocks.add()
    report = BenchReport(str(package), _summary(blocks, PACKAGE))
    if price is not None and report.speed.generates:
        report = replace(report, price=_price(report.speed, price))
    return report if against is None else _compared(report, str(against), blocks)


def _summary(blocks: Blocks, side: str) -> Speed:
    return Speed(
        blocks.blocks,
        {metric: estimate(Turns(values)) for metric, values in blocks.values(side).items()},
    )


def _compared(report: BenchReport, against: str, blocks: Blocks) -> BenchReport:
    generates = report.speed.generates
    rate = blocks.turns("decode_tokens_per_second" if generates else "calls_per_second")
    first = blocks.turns("ttft" if generates else "first_call_time")
    assert first.baseline is not None
    return replace(
        report,
        against=against,
        other=_summary(blocks, BASELINE),
        throughput_speedup=estimate(rate, relative=True),
        first_speedup=estimate(Turns(first.baseline, first.values), relative=True),
        control=control(rate),
    )


def _price(speed: Speed, per_hour: float) -> Price:
    millions = {
        way: 1e6 * per_hour / 3600 / speed.metrics[f"{way}_tokens_per_second"].value
        for way in ("prefill", "decode")
    }
    return Price(per_hour, millions["prefill"], millions["decode"])
