"""graphopt passes check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli._console import console, json_option, quiet_option, working, write_json
from graphopt.errors import CheckFailed

if TYPE_CHECKING:
    from graphopt.testing import Conformance

__all__ = ["command"]


@click.command("check")
@click.argument("distribution")
@json_option
@quiet_option
@click.pass_context
def command(ctx: click.Context, distribution: str, json_file: str | None, quiet: bool) -> None:
    """Hold every pass that the installed DISTRIBUTION brings to what all passes promise.

    Each is run over its own examples, over graphs that ship with graphopt, over generated ones and over one
    whose weights lie beyond 2 GiB of a file. Exit code 1: a pass broke a promise, or changed none of them.
    """
    from graphopt.testing import check_distribution

    with working(quiet) as say:
        found = check_distribution(distribution, lambda name: say(f"checking passes: {name}"))
    write_json(json_file, _as_json(distribution, found))
    if not quiet and json_file != "-":
        _print(found)
    ctx.exit(0 if all(found) else CheckFailed.exit_code)


def _as_json(distribution: str, found: Sequence[Conformance]) -> dict[str, Any]:
    from dataclasses import asdict

    from graphopt.testing import PROMISES

    return {
        "distribution": distribution,
        "promises": dict(PROMISES),
        "passes": [asdict(conformance) for conformance in found],
    }


def _print(found: Sequence[Conformance]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("pass", style="cyan", no_wrap=True)
    table.add_column("graphs", justify="right")
    table.add_column("changed", justify="right")
    table.add_column("verdict")
    for each in found:
        broken = ", ".join(problem.promise for problem in each.problems)
        verdict = Text(f"✗ {broken}", "red") if broken else Text("✓ conforms", "green")
        table.add_row(each.name, str(each.graphs), str(each.changed), verdict)
    out.print(table)
    for each in found:
        for problem in each.problems:
            out.print()
            out.print(Text.assemble((each.name, "bold cyan"), " ", (problem.promise, "bold red")))
            out.print(Text(f"{problem.said}\non {problem.graph}:\n{problem.text}"), soft_wrap=True)
