"""Plans as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from graphopt.machine import Interval
    from graphopt.planner import Checked, Choice, Gain, Hosted, Outlook, PlannedPackage, Request, Verified

__all__ = ["print_checked", "print_choice", "print_hosted", "print_verified"]

_MAIN = ("tpot", "ttft", "decode_tokens_per_second", "batch_tokens_per_second", "load_time")
_REST = (
    "package_bytes",
    "peak_memory",
    "bpw",
    "kl_mean",
    "usd_per_mtok_in",
    "usd_per_mtok_out",
    "usd_per_mtok",
)
_COUNTED = ("bpw", "weight_bytes", "package_bytes")


def print_choice(
    choice: Choice, best: Outlook, out: Console, written: Path | None, source: str | None
) -> None:
    """The chosen plan, what is expected of it, what each part gains, what else could be chosen, and how it is
    made of `source`, where there are weights."""
    from graphopt.planner import gains, label

    request = choice.request
    asked = f"prompt of {request.prompt} tokens, {request.new} written; least {request.objective}"
    out.print()
    out.print(Text.assemble((f" {request.name}", "bold"), (f"  {asked}", "dim")))
    out.print(Text.assemble(" plan  ", (label(best.candidate), "bold cyan")))
    out.print()
    out.print(_expected(best, request))
    for line in _said(choice, best):
        out.print(Padding(Text(line), (0, 0, 0, 1)))
    found = gains(request, best)
    if found:
        out.print()
        out.print(_gains(found))
    points = choice.pareto()
    if len(points) > 1:
        out.print()
        out.print(_pareto(choice))
    if source is not None:
        out.print()
        out.print(Padding(Text(_next(best, written, source)), (0, 0, 0, 1)))


def _expected(best: Outlook, request: Request) -> Table:
    from graphopt.metrics import METRICS
    from graphopt.planner import said

    table = _table(" expected", "value", "nine of ten between", "budget", numbers=(1, 2, 3))
    bounds = {one.metric: one.text.partition("=")[2] for one in request.bounds}
    for key in (*_MAIN, *_REST):
        if key == "batch_tokens_per_second" and best.candidate.batch == 1:
            continue
        interval = best.prediction.metrics.get(key)
        if interval is None:
            continue
        value = said(interval, METRICS[key], bounds=False)
        table.add_row(f" {METRICS[key].label}", value, _between(interval, key), bounds.get(key, ""))
    return table


def _between(interval: Interval, key: str) -> str:
    from graphopt.metrics import METRICS
    from graphopt.planner import between

    if interval.low == interval.high:
        return "counted" if key in _COUNTED else ""
    return between(interval, METRICS[key])


def _said(choice: Choice, best: Outlook) -> list[str]:
    from graphopt.metrics import METRICS
    from graphopt.planner import exactly, said

    request = choice.request
    lines = []
    if best.unsure:
        lines.append(f"not sure: {', '.join(best.unsure)} is kept, but the interval reaches beyond")
    if choice.binding is not None:
        lines.append(f"binding: {choice.binding}")
    even = request.hosting.break_even(request.prompt, request.new, best.prediction.metrics)
    if even is not None:
        lines.append(_even(even))
    queue = best.prediction.queue
    if queue is not None and best.candidate.devices == 1:
        wait = said(exactly(queue.wait), METRICS["ttft"])
        lines.append(
            f"busy {queue.utilisation:.3g} of the time, a request waits {wait} in the mean ({queue.model})"
        )
    lines += [f"wide: {text}" for text in best.prediction.widened[:3]]
    lines += [*choice.notes, *(note for note in best.notes if request.sensitivities is not None)]
    return lines


def _even(even: Interval) -> str:
    from graphopt.planner import figure

    if even.value > 1:
        return (
            f"dearer than the API at any utilization: {figure(even.value)} times its price when always busy"
        )
    value, low, high = (figure(100 * one, 2) for one in (even.value, even.low, even.high))
    return f"cheaper than the API from a utilization of {value} % on ({low} to {high})"


def _gains(found: Sequence[Gain]) -> Table:
    from graphopt.planner import figure

    table = _table(" what gains what", "times as much without it", numbers=())
    for one in found:
        times = ", ".join(f"{key} {figure(value)}" for key, value in one.times.items())
        note = f" ({one.note})" if one.note else ""
        table.add_row(f" {one.part}", f"{times}{note}")
    return table


def _pareto(choice: Choice) -> Table:
    from graphopt.metrics import METRICS
    from graphopt.planner import said

    keys = ["tpot", "package_bytes", "kl_mean"]
    if "usd_per_mtok" in choice.outlooks[0].prediction.metrics:
        keys.append("usd_per_mtok")
    heads = {"tpot": "a token", "package_bytes": "bytes", "kl_mean": "KL", "usd_per_mtok": "a million"}
    names = [heads[key] for key in keys]
    table = _table(" plan", "threads", *names, "why", numbers=tuple(range(1, len(keys) + 2)))
    for point in choice.pareto():
        candidate, metrics = point.outlook.candidate, point.outlook.prediction.metrics
        name = " ".join([candidate.recipe, *candidate.budget])
        if len(choice.request.profiles) > 1:
            name += f" on {candidate.machine}"
        if candidate.batch > 1:
            name += f" x {candidate.batch}"
        cells = [said(metrics[key], METRICS[key], bounds=False) if key in metrics else "" for key in keys]
        table.add_row(f" {name}", str(candidate.threads or ""), *cells, point.reason)
    return table


def _next(best: Outlook, written: Path | None, source: str) -> str:
    candidate = best.candidate
    if written is not None:
        return f"recipe written: graphopt optimize {source} --recipe {written}"
    if not candidate.budget and not candidate.options:
        return f"graphopt optimize {source} --recipe {candidate.recipe} makes it; -o writes it as a recipe"
    return "-o RECIPE.toml writes it as a recipe, for graphopt optimize --recipe"


def print_checked(planned: PlannedPackage, out: Console) -> None:
    """What was predicted of a package, and what was then measured."""
    from graphopt.planner import label

    out.print()
    best = planned.choice.best
    out.print(Text.assemble((" planned  ", "bold"), (label(best.candidate), "bold cyan")))
    _print_measured(planned.checked, out)


def print_verified(found: Sequence[Verified], out: Console) -> None:
    """The same of several plans."""
    from graphopt.planner import label

    for one in found:
        out.print()
        out.print(Text.assemble((" made  ", "bold"), (label(one.outlook.candidate), "bold cyan")))
        if one.error is not None:
            out.print(Padding(Text(one.error, "red"), (0, 0, 0, 1)))
        else:
            _print_measured(one.checked, out)


def _print_measured(checked: Sequence[Checked], out: Console) -> None:
    from graphopt.metrics import METRICS
    from graphopt.planner import exactly, said

    table = _table(" metric", "predicted", "nine of ten between", "measured", "budget", numbers=(1, 2, 3, 4))
    for one in checked:
        metric = METRICS[one.metric]
        predicted = between = ""
        if one.predicted is not None:
            predicted = said(one.predicted, metric, bounds=False)
            between = _between(one.predicted, one.metric)
        measured = said(exactly(one.measured), metric)
        budget = (one.bound or "").partition("=")[2]
        table.add_row(
            f" {metric.label}", predicted, between, measured if one.foreseen else f"{measured} !", budget
        )
    out.print(table)
    if any(not one.foreseen for one in checked):
        out.print(Padding(Text("! beyond the interval that was predicted", "dim"), (0, 0, 0, 1)))


def print_hosted(request: Request, found: Sequence[Hosted], out: Console) -> None:
    """Models by machines: the best plan of each, its price, and what each area contributes."""
    from graphopt.metrics import METRICS
    from graphopt.planner import figure, said

    asked = f"prompt of {request.prompt} tokens, {request.new} written; least {request.objective}"
    if request.hosting.utilization < 1:
        asked += f"; machines busy {request.hosting.utilization:.0%} of the time"
    out.print()
    out.print(Text.assemble((" hosting", "bold"), (f"  {asked}", "dim")))
    out.print()
    table = _table(
        " model", "machine", "plan", "tpot", "$/M in", "$/M out", "break-even", numbers=(3, 4, 5, 6)
    )
    for one in found:
        best = one.outlook
        if best is None:
            continue
        candidate, metrics = best.candidate, best.prediction.metrics
        plan = " ".join([candidate.recipe, *candidate.budget])
        plan += f" x {candidate.batch}" if candidate.batch > 1 else ""
        machine = f"{candidate.devices} x {one.machine}" if candidate.devices > 1 else one.machine
        prices = [
            said(metrics[key], METRICS[key], bounds=False) if key in metrics else ""
            for key in ("tpot", "usd_per_mtok_in", "usd_per_mtok_out")
        ]
        even = (
            ""
            if one.break_even is None
            else f"{figure(100 * one.break_even.value, 2)}%"
            if one.break_even.value <= 1
            else "never"
        )
        table.add_row(f" {one.model}", machine, plan, *prices, even)
    if table.row_count:
        out.print(table)
    for one in found:
        if one.refused:
            out.print(Padding(Text(f"{one.model} on {one.machine}: {one.refused}"), (0, 0, 0, 1)))
    with_areas = [one for one in found if one.areas]
    if with_areas:
        out.print()
        out.print(_areas(with_areas))
    for note in dict.fromkeys(note for one in found if one.choice is not None for note in one.choice.notes):
        out.print(Padding(Text(note, "dim"), (0, 0, 0, 1)))


def _areas(found: Sequence[Hosted]) -> Table:
    from graphopt.planner import figure

    names = list(dict.fromkeys(area.name for one in found for area in one.areas))
    table = _table(" times cheaper by", "machine", *names, numbers=tuple(range(2, 2 + len(names))))
    for one in found:
        times = {area.name: figure(area.times) for area in one.areas}
        table.add_row(f" {one.model}", one.machine, *(times.get(name, "") for name in names))
    return table


def _table(*heads: str, numbers: tuple[int, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(
            head, justify="right" if index in numbers else "left", no_wrap=index in numbers, overflow="fold"
        )
    return table
