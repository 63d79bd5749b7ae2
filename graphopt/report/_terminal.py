"""The summary a person reads when a run is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from graphopt.metrics import METRICS
from graphopt.report._closing import worst
from graphopt.report._coverage import coverage_text
from graphopt.report._model import PAGE, ClosingReport, MetricReport, PassReport, Report
from graphopt.report._terminal_plan import plan_text
from graphopt.report._text import bytes_change, bytes_text, plural, seconds_text

__all__ = ["print_explanation", "print_report"]

_VERDICTS = {
    "passed": ("✓ passed", "bold green"),
    "failed": ("✗ failed", "bold red"),
    "inconclusive": ("? inconclusive", "bold yellow"),
    "not run": ("not run", "yellow"),
}


def print_report(report: Report, console: Console, *, installed: bool = True) -> None:
    """Print the summary, for 80 columns and up. `installed`: whether `report.out` now holds the package."""
    console.print()
    console.print(_headline(report))
    console.print()
    console.print(_passes(report.passes))
    for line in _aside(report):
        console.print(Padding(line, (0, 0, 0, 1)))
    for plan in report.plans.values():
        console.print()
        console.print(plan_text(plan))
    for role, coverage in report.coverage.items():
        console.print()
        console.print(coverage_text(role, coverage))
    console.print()
    console.print(_facts(report, installed))


def _headline(report: Report) -> Text:
    what = f"{report.family}, {report.task}" if report.family else report.task
    return Text.assemble(
        (f" {report.source}", "bold"),
        " → ",
        (report.recipe, "bold cyan"),
        f" on {report.target}  ",
        (what, "dim"),
    )


def _passes(passes: Sequence[PassReport]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(" pass", no_wrap=True, style="cyan", max_width=34)
    table.add_column("edits", justify="right", no_wrap=True)
    table.add_column("nodes", justify="right", no_wrap=True)
    table.add_column("weights", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("proved", no_wrap=True)
    for step in passes:
        if step.modified:
            table.add_row(
                f" {step.title}",
                str(step.applied),
                _nodes(step),
                _weights(step),
                Text("cached", style="dim") if step.cached else seconds_text(step.seconds),
                _proved(step),
            )
    return table


def _nodes(step: PassReport) -> Text:
    if step.nodes_before == step.nodes_after:
        return Text(str(step.nodes_after), style="dim")
    return Text(f"{step.nodes_before} → {step.nodes_after}")


def _weights(step: PassReport) -> Text:
    text = bytes_change(step.bytes_before, step.bytes_after)
    return Text(text, style="" if "→" in text else "dim")


def _proved(step: PassReport) -> Text:
    """What is known of each edit, of some of them, or of the whole graph."""
    found = step.verdicts
    if found["unproven"]:
        return Text(f"{found['unproven']} of {step.applied} unproven", style="yellow")
    if found["within budget"]:
        return Text("within budget", style="green")
    proved = found["proven"] or step.proofs.total()
    if proved and proved == step.applied:
        return Text("each edit", style="green")
    if proved:
        return Text(f"{proved} of {step.applied}")
    return Text("structure" if step.proved else "", style="dim")


def _aside(report: Report) -> Iterator[Text]:
    idle = [step.title for step in report.passes if not step.modified and not step.skipped]
    if idle:
        yield Text(f"{plural(len(idle), 'pass')} found nothing to do: {', '.join(idle)}", style="dim")
    skipped: dict[str, list[str]] = {}
    for step in report.passes:
        if step.skipped:
            skipped.setdefault(step.skipped, []).append(step.title)
    for reason, titles in skipped.items():
        yield Text(f"{', '.join(titles)} did not run: {reason}", style="yellow")
    for step in report.passes:
        outcomes = Counter(edit.outcome for edit in step.edits)
        if outcomes["refused"]:
            yield Text(
                f"{step.title}: {plural(outcomes['refused'], 'edit')} refused by the engine", style="yellow"
            )
        for edit in step.edits:
            if edit.outcome == "rolled back":
                yield Text(f"{edit.identity} was rolled back: {edit.reason}", style="red")
        reasons = Counter(e.reason for e in step.edits if e.outcome == "applied" and e.verdict == "unproven")
        for reason, count in reasons.items():
            yield Text(f"{step.title}: {plural(count, 'edit')} unproven: {reason}", style="yellow")


def _facts(report: Report, installed: bool) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    if edits := _edits(report.passes):
        table.add_row("edits", edits)
    table.add_row("closing check", _closing(report.closing))
    table.add_row("size", _size(report))
    table.add_row("time", _time(report))
    if report.peak_memory:
        table.add_row("memory", f"{bytes_text(report.peak_memory)} at the peak of this run")
    if report.assumptions:
        table.add_row("assumes", Text("\n".join(report.assumptions.values())))
    if report.notes:
        table.add_row("notes", Text("\n".join(report.notes)))
    if installed:
        table.add_row("package", Text(report.out, overflow="fold"))
        table.add_row("report", Text(f"{report.out}/{PAGE}", overflow="fold"))
    else:
        table.add_row("package", Text(f"not installed: nothing was written to {report.out}", style="red"))
    return table


def _edits(passes: Sequence[PassReport]) -> str:
    found: Counter[str] = sum((step.verdicts for step in passes), Counter())
    return ", ".join(f"{count} {verdict}" for verdict, count in found.most_common())


def _closing(closing: ClosingReport) -> RenderableType:
    label, style = _VERDICTS[closing.verdict]
    against = f"  against {closing.reference}, {seconds_text(closing.seconds)}" if closing.reference else ""
    lines: list[RenderableType] = [Text.assemble((label, style), (against, "dim"))]
    if closing.reason:
        lines.append(Text(closing.reason))
    lines += [_metric(one) for one in worst(closing.metrics)]
    cases = list(dict.fromkeys(one.case for one in closing.metrics))
    if len(cases) > 1:
        lines.append(Text(f"in the cases {', '.join(cases)}", style="dim"))
    return Group(*lines)


def _metric(one: MetricReport) -> Text:
    metric = METRICS[one.metric]
    larger = metric.better == "larger"
    relation = "≥" if larger else "≤"
    verdict = relation if one.holds else ("<" if larger else ">")
    return Text.assemble(
        f"{one.output}  {metric.label} ",
        (metric.text(one.value), "green" if one.holds else "bold red"),
        f" {verdict} {metric.text(one.bound)}" if one.bound else "",
        f" {metric.unit}" if metric.unit else "",
        ("" if one.holds else f"  in {one.case}", "red"),
    )


def _size(report: Report) -> Text:
    sizes = report.sizes
    before, after = sizes.source_weight_bytes, sizes.package_weight_bytes
    ratio = f"  ({before / after:.2g}x smaller)" if 0 < after < before / 1.05 else ""
    return Text.assemble(
        f"weights as stored {bytes_change(before, after)}",
        (ratio, "green"),
        (f"; all files {bytes_text(sizes.package_bytes)}", "dim"),
    )


def _time(report: Report) -> Text:
    names = {"export": "export (cached)"} if report.export_cached else {}
    phases = ", ".join(
        f"{names.get(name, name)} {seconds_text(s)}" for name, s in report.seconds.items() if s >= 0.05
    )
    return Text.assemble(seconds_text(sum(report.seconds.values())), (f"  {phases}", "dim"))


def print_explanation(report: Report, pass_name: str, console: Console) -> None:
    """Print why `pass_name` did not match where it almost did."""
    steps = [s for s in report.passes if s.step.partition("#")[0] == pass_name]
    console.print()
    for step in steps:
        said = f"{plural(step.applied, 'edit')} applied, {plural(len(step.near_misses), 'near miss')}"
        console.print(Text.assemble(" ", (step.title, "bold cyan"), f": {step.skipped or said}"))
        for miss in step.near_misses:
            console.print(Padding(Text.assemble((miss.where, "bold"), "\n  ", miss.reason), (0, 0, 0, 3)))
