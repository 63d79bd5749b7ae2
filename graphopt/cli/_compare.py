"""graphopt compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli._console import console, in_a_folder, json_option, quiet_option, working, write_json
from graphopt.errors import BadInput

if TYPE_CHECKING:
    from rich.table import Table

    from graphopt.report import Comparison, GateReport, Report

__all__ = ["command"]


@click.command("compare")
@click.argument("packages", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="compare.html",
    callback=in_a_folder,
    show_default=True,
    help="The page to write.",
)
@click.option(
    "--result",
    "results",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="What a gate measured of one of the packages: speed and accuracy beside sizes.",
)
@json_option
@quiet_option
def command(
    packages: tuple[Path, ...], out: Path, results: tuple[Path, ...], json_file: str | None, quiet: bool
) -> None:
    """Show PACKAGES side by side: sizes, nodes, what each pass did, accuracy beside its bounds.

    What is known of each is what its report.json says. What parts of its graphs take is measured here, one
    package after the other: it says where time goes, and a gate which package is faster.
    """
    from graphopt.report import compare_reports, write_page

    if len(packages) < 2:
        raise click.UsageError("compare takes two packages or more.")
    known = _results(results, packages)
    with working(quiet) as say:
        reports = []
        for path in packages:
            say(f"looking at {path}")
            reports.append(_report(path))
    comparison = compare_reports(reports, known)
    write_page(out, title=" · ".join(map(str, packages)), reports=reports, results=known)
    write_json(json_file, asdict(comparison))
    if not quiet and json_file != "-":
        console().print(_table(comparison))
        console().print(f"\n page  {out}")


def _report(path: Path) -> Report:
    from graphopt.build import Package
    from graphopt.cli._timed import timed

    package = Package.load(path)
    return timed(package.report().model_copy(update={"out": str(path)}), package)


def _results(files: Sequence[Path], packages: Sequence[Path]) -> list[GateReport | None]:
    """What gates measured, in the order of the packages. `BadInput` for a result of none of them."""
    from graphopt.gate import read_result

    found: dict[Path, GateReport] = {}
    places = [path.resolve() for path in packages]
    for file in files:
        result = read_result(file)
        place = Path(result.provenance.package).resolve()
        if place not in places:
            raise BadInput(
                f"{file} is about {result.provenance.package}, which is none of these packages",
                hint=f"These are {', '.join(map(str, packages))}.",
            )
        found[place] = result
    return [found.get(place) for place in places]


def _table(comparison: Comparison) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(" ", style="bold")
    for name in comparison.names:
        table.add_column(name, justify="right", overflow="fold")
    for row in comparison.rows:
        cells = [Text(cell, style="green" if row.best == at else "") for at, cell in enumerate(row.cells)]
        table.add_row(f" {row.label}", *cells)
    return table
