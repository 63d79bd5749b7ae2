"""graphopt diff."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli._console import console, json_option, write_json
from graphopt.cli._graph_files import graph_files
from graphopt.errors import BadInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from graphopt.diff import Diff, Place, Region

__all__ = ["command"]


@click.command("diff")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@json_option
def command(a: Path, b: Path, json_file: str | None) -> None:
    """Show what changed from A to B, each an .onnx file or a package folder.

    Nodes are compared by what they compute, weights by what they hold. Pieces that differ are shown with what
    stands in their place and the passes that wrote it; alike pieces, such as those of each layer, once.
    """
    from graphopt.diff import diff
    from graphopt.ir import load_model

    found = {name: diff(*map(load_model, pair)) for name, pair in _pairs(a, b).items()}
    write_json(json_file, {name: asdict(one) for name, one in found.items()})
    if json_file == "-":
        return
    for name, one in found.items():
        console().print(_rendered(name, one))


def _pairs(a: Path, b: Path) -> dict[str, tuple[Path, Path]]:
    before, after = graph_files(a), graph_files(b)
    if len(before) == len(after) == 1:
        return {f"{a} → {b}": (before[0], after[0])}
    ours, theirs = ({path.name: path for path in side} for side in (before, after))
    if ours.keys() != theirs.keys():
        raise BadInput(
            f"{a} and {b} hold graphs of different names: {', '.join(ours)} and {', '.join(theirs)}",
            hint="Name two .onnx files.",
        )
    return {name: (ours[name], theirs[name]) for name in ours}


def _rendered(name: str, one: Diff) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from graphopt.report import plural

    counts = f"{one.nodes_before} → {plural(one.nodes_after, 'node')}, {one.same} of them the same"
    head = (Text(name, style="bold"), Text(counts))
    if not one:
        return Group(*head, Text("Nothing differs."))
    lines = [Text(line, style="yellow") for line in one.interface]
    return Group(*head, *lines, Text(), _table(one)) if one.regions else Group(*head, *lines)


def _table(one: Diff) -> RenderableType:
    from rich import box
    from rich.table import Table

    alike: dict[object, list[Region]] = {}
    for region in one.regions:
        alike.setdefault(region.kind, []).append(region)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("times", justify="right", no_wrap=True)
    for title in ("before", "after", "by"):
        table.add_column(title, overflow="fold")
    table.add_column("first at", style="dim", overflow="fold")
    for regions in alike.values():
        first = regions[0]
        where = first.outputs or tuple(place.name for place in first.before or first.after)
        before, after = _operators(first.before), _operators(first.after)
        table.add_row(str(len(regions)), before, after, ", ".join(first.passes), where[0])
    return table


def _operators(places: tuple[Place, ...]) -> str:
    counts = Counter(place.operator.rpartition("::")[2] for place in places)
    return ", ".join(name if n == 1 else f"{n} {name}" for name, n in counts.items()) or "nothing"
