"""graphopt inspect."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli._console import console, json_option, write_json
from graphopt.cli._graph_files import graph_files

if TYPE_CHECKING:
    import onnx_ir as ir
    from rich.console import RenderableType

    from graphopt.report import CoverageReport

__all__ = ["command"]

_MOVING = {"Cast", "Concat", "Expand", "Flatten", "Identity", "Pad", "Reshape", "Shape", "Slice", "Split"}
_MOVING |= {"Squeeze", "Tile", "Transpose", "Unsqueeze"}
_SHOWN = 4  # names of a kind: the rest of a line on a terminal of 80


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--coverage",
    "covered",
    is_flag=True,
    help="Of a package: which nodes run on which execution provider, for what share of the time, and why some"
    " are not on the target's. Runs it.",
)
@json_option
def command(model: Path, covered: bool, json_file: str | None) -> None:
    """Show the interface, the operators and the size of MODEL, an .onnx file or a package folder."""
    from graphopt.ir import load_model

    described = {path.name: _describe(load_model(path)) for path in graph_files(model)}
    found = _covered(model) if covered else {}
    write_json(
        json_file,
        described | ({"coverage": {r: c.model_dump() for r, c in found.items()}} if covered else {}),
    )
    if json_file == "-":
        return
    for name, one in described.items():
        console().print(_rendered(name, one))
    if found:
        from graphopt.report import coverage_text

        for role, report in found.items():
            console().print()
            console().print(coverage_text(role, report))


def _covered(folder: Path) -> dict[str, CoverageReport]:
    """Where the nodes of the package's graphs run, by role. `BadInput` for a file."""
    from graphopt.evaluate import coverage
    from graphopt.package import RunnablePackage
    from graphopt.report import CoverageReport

    return {role: CoverageReport.of(one) for role, one in coverage(RunnablePackage.load(folder)).items()}


def _describe(model: ir.Model) -> dict[str, Any]:
    from graphopt.pipeline import weight_bytes

    nodes = list(model.graph.all_nodes())
    census = Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in nodes)
    graphs = (model.graph, *model.graph.subgraphs())
    weights = Counter[str]()
    for value in (v for graph in graphs for v in graph.initializers.values()):
        if value.const_value is not None:
            weights[value.const_value.dtype.name.lower()] += value.const_value.nbytes
    return {
        "opsets": {domain or "ai.onnx": version for domain, version in model.opset_imports.items()},
        "inputs": [_port(v) for v in model.graph.inputs if not v.is_initializer()],
        "outputs": [_port(v) for v in model.graph.outputs],
        "nodes": len(nodes),
        "operators": dict(sorted(census.items(), key=lambda item: (-item[1], item[0]))),
        "moves": _moves(model),
        "weight_bytes": weight_bytes(model),
        "weight_bytes_by_dtype": dict(weights.most_common()),
    }


def _moves(model: ir.Model) -> dict[str, Any]:
    """Nodes that move data and compute nothing: of activations, by operator their names; else their counts.

    Masks, lengths and positions follow from integer inputs and shapes, and are small.
    """
    from graphopt.verify import Derived

    derived, activations, control = Derived(model), dict[str, list[str]](), Counter[str]()
    for node in model.graph.all_nodes():
        if node.domain or node.op_type not in _MOVING:
            continue
        if derived(node.outputs[0]):
            control[node.op_type] += 1
        else:
            activations.setdefault(node.op_type, []).append(node.name or node.op_type)
    return {"of_activations": activations, "of_masks_lengths_positions": dict(control.most_common())}


def _port(value: ir.Value) -> dict[str, Any]:
    shape = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    return {
        "name": value.name,
        "dtype": value.dtype.name.lower() if value.dtype is not None else None,
        "shape": shape,
    }


def _rendered(name: str, one: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from graphopt.report import bytes_text, plural

    opsets = ", ".join(f"{domain} {version}" for domain, version in one["opsets"].items())
    dtypes = ", ".join(f"{dtype} {bytes_text(size)}" for dtype, size in one["weight_bytes_by_dtype"].items())
    return Group(
        Text.assemble((name, "bold"), f"  {plural(one['nodes'], 'node')}, opset {opsets}"),
        Text.assemble("weights ", (bytes_text(one["weight_bytes"]), "bold"), f"  {dtypes}"),
        Text(),
        _interface(one),
        Text(),
        _census(one["operators"].items()),
        Text(),
        Text.assemble(("moves of data", "bold"), f" that compute nothing\n{_moved(one['moves'])}"),
    )


def _moved(moves: dict[str, Any]) -> str:
    control = [f"{count} {op}" for op, count in moves["of_masks_lengths_positions"].items()]
    activations = [
        f"{len(names)} {op} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
        for op, names in moves["of_activations"].items()
    ]
    return (
        f"  of activations: {', '.join(activations) or 'none'}\n"
        f"  of masks, lengths and positions: {', '.join(control) or 'none'}"
    )


def _interface(one: dict[str, Any]) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("name", style="cyan", overflow="fold")
    table.add_column("type", no_wrap=True)
    table.add_column("shape", overflow="fold")
    for side in ("inputs", "outputs"):
        for name, port in _collapsed(one[side]):
            table.add_row(side[:-1], name, port["dtype"] or "?", _shape(port["shape"]))
    return table


def _collapsed(ports: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Ports with the name to show; those that differ only in a number, a layer's caches say, become one."""
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for port in ports:
        alike.setdefault((re.sub(r"\d+", "#", port["name"]), str(port["shape"])), []).append(port)
    return [(_name(pattern, group), group[0]) for (pattern, _), group in alike.items()]


def _name(pattern: str, group: list[dict[str, Any]]) -> str:
    if len(group) == 1 or pattern.count("#") != 1:
        return ", ".join(port["name"] for port in group)
    numbers = [re.search(r"\d+", port["name"]) for port in group]
    first, last = (found[0] for found in (numbers[0], numbers[-1]) if found)
    return pattern.replace("#", f"{{{first}..{last}}}")


def _shape(shape: list[Any] | None) -> str:
    return "?" if shape is None else f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def _census(operators: Iterable[tuple[str, int]]) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("nodes", justify="right", no_wrap=True)
    table.add_column("operator", style="cyan", no_wrap=True)
    for operator, count in operators:
        table.add_row(str(count), operator)
    return table
