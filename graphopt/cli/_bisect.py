"""graphopt bisect."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli._console import console, json_option, quiet_option, working, write_json
from graphopt.cli._plugins import no_plugins_option

if TYPE_CHECKING:
    from graphopt.bisect import Bisection, Culprit

__all__ = ["command"]


@click.command("bisect")
@click.argument("source")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Folder to work in.  [default: ./SOURCE-bisect]"
)
@click.option("--recipe", metavar="NAME|FILE.toml", help="The recipe that does harm.")
@click.option(
    "--check",
    metavar="CMD",
    help="Command that judges the package in $GRAPHOPT_PACKAGE: 0 good, 125 cannot tell, 1 to 127 bad. "
    "[default: comparison with the source]",
)
@click.option(
    "--target", help="What the package shall run on, see `graphopt targets list`. [default: graphopt's first]"
)
@click.option("--task", default="auto", show_default=True, help="What the model is for.")
@click.option(
    "--inputs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.npz",
    help="Inputs to compare an .onnx source on.",
)
@click.option("--dim", "dims", multiple=True, metavar="NAME=VALUES", help="Sizes a dimension may have.")
@click.option("--set", "settings", multiple=True, metavar="PASS[#N].OPTION=VALUE", help="Set an option.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@json_option
@quiet_option
@no_plugins_option
def command(
    source: str, out: Path | None, check: str | None, json_file: str | None, quiet: bool, **asked: Any
) -> None:
    """Find the pass, and in it the edit, that makes the package of SOURCE bad.

    Tries parts of the recipe's edits, and cuts out the piece of the graph where the difference shows. What
    was tried is kept in the output folder: the same command goes on after an interruption.
    """
    from graphopt.bisect import bisect
    from graphopt.recipes import OptimizeOptions

    with working(quiet) as say:
        found = bisect(
            source,
            out=out or Path(f"{Path(source).stem}-bisect"),
            check=check,
            options=OptimizeOptions(**asked),
            progress=say,
        )
    write_json(json_file, asdict(found) | {"reproducer": found.reproducer and str(found.reproducer)})
    if not quiet and json_file != "-":
        _show(found)


def _show(found: Bisection) -> None:
    from rich.text import Text

    out = console()
    tried = f"{found.trials} packages tried" + (f", {found.known} known before" if found.known else "")
    if found.culprit is None:
        out.print(f"The package is good: there is nothing to find. ({tried})")
        return
    if found.promise:
        out.print("The package passes for good, but one of its edits does not keep what its pass promises:")
    out.print(Text.assemble((found.culprit.step, "bold"), f": {_line(found.culprit)}"))
    for other in found.together:
        out.print(f"  does harm only together with {other.step}: {_line(other)}")
    for other in found.candidates:
        out.print(f"  or it is {other.step}: {_line(other)}, which no check could tell apart")
    if found.reproducer is not None:
        out.print(f"  to see it: python reproduce.py in {found.reproducer}", soft_wrap=True)
    else:
        out.print("  no piece of the graph shows a difference by itself")
    out.print(f"  {tried}")


def _line(culprit: Culprit) -> str:
    return f"edit {culprit.identity} ({culprit.summary})"
