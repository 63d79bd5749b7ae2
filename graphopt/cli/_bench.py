"""graphopt bench."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli._console import console, json_option, quiet_option, working, write_json
from graphopt.cli._numbers import FiniteRange
from graphopt.cli._plugins import no_plugins_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from graphopt.evaluate import BenchReport, Foretold
    from graphopt.machine import Interval
    from graphopt.metrics import Estimate

__all__ = ["command"]

_ROWS = (
    *("load_time", "ttft", "prefill_tokens_per_second", "decode_tokens_per_second", "tpot", "tpot_p90"),
    *("first_call_time", "calls_per_second", "call_time", "call_time_p90", "peak_memory"),
)


@click.command("bench")
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), metavar="PACKAGE", help="Measure this one too.")
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Length of the prompt, or text.",
)
@click.option(
    "--new-tokens",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Tokens to time; of other models calls, or half a second of them.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Blocks, with two fresh processes for each.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="[default: what this process may use]")
@click.option(
    "--inputs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.npz",
    help="Inputs by name, for models that generate no text. [default: random legal ones]",
)
@click.option("--price", type=FiniteRange(min=0), metavar="$/h", help="What the machine costs an hour.")
@json_option
@quiet_option
@no_plugins_option
def command(
    package: Path,
    against: Path | None,
    prompt_tokens: int,
    new_tokens: int,
    rounds: int,
    threads: int | None,
    inputs: Path | None,
    price: float | None,
    json_file: str | None,
    quiet: bool,
) -> None:
    """Measure load time, time to first token, tokens a second and memory of PACKAGE.

    Every measurement is a fresh process. With --against the two packages take turns there and back, and so
    does PACKAGE once more, as a control: what that differs from itself is chance.
    """
    from graphopt.evaluate import measure_speed

    with working(quiet) as say:
        say(f"measuring {package}" + (f" and {against}" if against else ""))
        found = measure_speed(
            package,
            against,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            rounds=rounds,
            threads=threads,
            inputs=inputs,
            price=price,
        )
    write_json(json_file, found.to_json())
    if not quiet and json_file != "-":
        _print(found, prompt_tokens, new_tokens)


def _print(found: BenchReport, prompt_tokens: int, new_tokens: int) -> None:
    from rich.text import Text

    out = console()
    text = found.speed.generates
    what = (
        f"prompt of {prompt_tokens} tokens, {new_tokens} generated" if text else f"{new_tokens} calls at most"
    )
    what += f"; {found.speed.rounds} blocks of fresh processes"
    out.print()
    out.print(
        Text.assemble(
            (f" {found.package}", "bold"),
            (f"  {what}", "dim"),
        )
    )
    out.print()
    out.print(_table(found))
    if found.throughput_speedup is not None and found.first_speedup is not None:
        out.print()
        for what, speedup in (
            ("decode" if text else "calls", found.throughput_speedup),
            ("first token" if text else "first call", found.first_speedup),
        ):
            out.print(_speedup(what, speedup))
    if found.control is not None:
        out.print(f" control: {_span(found.control)} times as fast as itself")
    for line in _foretold(found.foretold):
        out.print(line)
    if found.price is not None:
        out.print()
        out.print(
            f" at ${found.price.per_hour:g} an hour, a million tokens cost "
            f"${found.price.per_million_in:.3g} in and ${found.price.per_million_out:.3g} out"
        )


_FEW_NAMED = 3


def _foretold(foretold: Foretold | None) -> Iterator[str]:
    """How far off the profile's predictions are, and what they missed now."""
    from graphopt.metrics import METRICS
    from graphopt.report import plural

    if foretold is None:
        return
    yield ""
    if foretold.unknown:
        named = ", ".join(foretold.unknown[:_FEW_NAMED])
        yield f" no times are predicted: nothing is known of what {named} cost"
    for metric in foretold.missed:
        yield f" {METRICS[metric].label} lies outside what was predicted"
    for reason in foretold.widened:
        yield f" predictions are less sure: {reason}"
    history = foretold.history
    for metric in ("tpot", "ttft"):
        if (one := history.metrics.get(metric)) is not None:
            yield (
                f" predictions of {METRICS[metric].label} before: {100 * one.median_error:.1f} % off in the "
                f"median of {one.count}, and {100 * one.coverage:.0f} % within their interval"
            )
    if history.damaged:
        yield f" {plural(history.damaged, 'damaged line')} of the record of predictions left out"


def _table(found: BenchReport) -> Table:
    from rich import box
    from rich.table import Table

    from graphopt.metrics import METRICS

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(" measure", no_wrap=True)
    for name in filter(None, (found.package, found.against)):
        table.add_column(name, overflow="fold")
    speeds = [speed for speed in (found.speed, found.other) if speed is not None]
    predicted = {} if found.foretold is None else found.foretold.predicted
    if predicted:
        table.add_column("predicted", overflow="fold")
    for key in _ROWS:
        if key in found.speed.metrics:
            metric = METRICS[key]
            cells = [_shown(speed.metrics[key], metric.unit) for speed in speeds if key in speed.metrics]
            if predicted:
                cells += [""] * (len(speeds) - len(cells))
                cells.append(_shown(predicted[key], metric.unit) if key in predicted else "")
            table.add_row(f" {metric.label}", *cells)
    return table


def _shown(estimate: Estimate | Interval, unit: str) -> str:
    from graphopt.report import bytes_text, number

    if unit == "bytes":
        return bytes_text(round(estimate.value))
    scale, unit = (1e3, "ms") if unit == "s" and estimate.value < 1 else (1, unit)
    value, low, high = (number(x * scale) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} {unit} ({low} to {high})" if math.isfinite(estimate.high) else f"{value} {unit}"


def _speedup(what: str, speedup: Estimate) -> str:
    sure = "" if speedup.low > 1 or speedup.high < 1 else "; no difference is shown"
    if not math.isfinite(speedup.high):
        sure = "; one round does not tell"
    return f" {what}: {_span(speedup)} times as fast{sure}"


def _span(ratio: Estimate) -> str:
    known = f" ({ratio.low:.3g} to {ratio.high:.3g})" if math.isfinite(ratio.high) else ""
    return f"{ratio.value:.3g}{known}"
