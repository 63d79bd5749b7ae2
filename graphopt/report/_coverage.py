"""Where nodes run, in report.json and on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from graphopt.report._page_parts import share_text
from graphopt.report._text import plural

if TYPE_CHECKING:
    from graphopt.evaluate import Coverage

__all__ = ["CoverageReport", "CoverageRowReport", "FallbackReport", "coverage_text"]

_SHOWN = 3  # names of nodes that fell back for one reason


class CoverageRowReport(BaseModel):
    """Nodes of one operator on one execution provider; `share` of the time of all nodes, if it was measured.

    A row of no nodes is of what the provider fused or compiled after nodes were shared out.
    """

    provider: str
    operator: str
    count: int
    share: float | None = None


class FallbackReport(BaseModel):
    """A node that runs on another provider than the target's, and why."""

    node: str
    operator: str
    provider: str
    reason: str


class CoverageReport(BaseModel):
    """Where the nodes of one graph run: see `graphopt.evaluate.Coverage`."""

    provider: str
    rows: list[CoverageRowReport] = Field(default_factory=list)
    fallbacks: list[FallbackReport] = Field(default_factory=list)
    crossings: int | None = 0
    copies: int | None = None
    copy_share: float | None = None
    fallback_share: float | None = None
    untimed: str = ""

    @classmethod
    def of(cls, coverage: Coverage) -> CoverageReport:
        """The report of what was found."""
        return cls(
            provider=coverage.provider,
            rows=[CoverageRowReport(**vars(row)) for row in coverage.rows],
            fallbacks=[FallbackReport(**vars(one)) for one in coverage.fallbacks],
            crossings=coverage.crossings,
            copies=coverage.copies,
            copy_share=coverage.copy_share,
            fallback_share=coverage.fallback_share,
            untimed=coverage.untimed,
        )

    @property
    def sentence(self) -> str:
        """How much is on the target's provider, and what the rest costs."""
        total = sum(row.count for row in self.rows)
        own = total - len(self.fallbacks)
        said = [f"{own} of {plural(total, 'node')} on {self.provider}"]
        if self.fallback_share is not None and self.fallbacks:
            said.append(f"the others take {share_text(self.fallback_share)} of the time")
        if self.crossings:
            said.append(f"{plural(self.crossings, 'value')} cross between providers")
        if self.copies:
            time = "" if self.copy_share is None else f", {share_text(self.copy_share)} of the time"
            said.append(f"{self.copies} {'copy' if self.copies == 1 else 'copies'}{time}")
        if self.untimed:
            said.append(f"not timed: {self.untimed}")
        return "; ".join(said)

    def reasons(self) -> Iterator[tuple[str, int, str, str]]:
        """Operator, how many fell back, their names or the first of them, and why; most first."""
        names: dict[tuple[str, str], list[str]] = {}
        for one in self.fallbacks:
            names.setdefault((one.operator, one.reason), []).append(one.node)
        counts = Counter({key: len(found) for key, found in names.items()})
        for (operator, reason), count in counts.most_common():
            found = names[operator, reason]
            yield operator, count, ", ".join(found[:_SHOWN]) + (", …" if count > _SHOWN else ""), reason

    def table(self) -> Iterator[tuple[str, str, str, str]]:
        """Provider, operator, nodes and share of the time, as text."""
        for row in self.rows:
            share = "" if row.share is None else share_text(row.share)
            yield row.provider, row.operator, str(row.count) if row.count else "made", share


def coverage_text(role: str, coverage: CoverageReport) -> RenderableType:
    """A table of where nodes run, and why some are not on the target's provider."""
    whose = "" if role == "model" else f"{role}: "
    lines: list[RenderableType] = [
        Text.assemble((" where nodes run", "bold"), f"  {whose}{coverage.sentence}")
    ]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(" provider", style="cyan", no_wrap=True)
    table.add_column("operator", no_wrap=True)
    table.add_column("nodes", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    before = ""
    for provider, operator, count, share in coverage.table():
        table.add_row(f" {'' if provider == before else provider}", operator, count, share)
        before = provider
    lines.append(table)
    for operator, many, names, reason in coverage.reasons():
        said = Text.assemble((f"{many} {operator}", "yellow"), f" fell back: {reason}", (f"  {names}", "dim"))
        lines.append(Padding(said, (0, 0, 0, 1)))
    return Group(*lines)
