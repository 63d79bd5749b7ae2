"""Writes the tables of docs/targets.md and of tuned sessions: `python -m tests.project.targets_table`.

They are what targets say, and what `benchmarks/targets.py` and `benchmarks/tuning.py` found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from graphopt_targets import PACK

from graphopt.metrics import METRICS
from graphopt.targets import DescribedTarget, KernelForm, OperatorTables, Target
from tests._cache import ROOT

PAGE = ROOT / "docs/targets.md"
_NEVER = "never"
_OPSET = 23


TUNING = ROOT / "docs/decisions/session-tuning.md"
RESULTS = ROOT / "benchmarks/results"


def written(path: Path) -> str:
    """The page at `path` with what stands between `<!-- NAME -->` and `<!-- end of NAME -->` made anew."""
    page = path.read_text(encoding="utf-8")
    for name, lines in _tables(path).items():
        text = "\n".join(("", "", *(list(lines) or ["Not measured yet."]), "", ""))
        page, count = re.subn(
            rf"(?s)(?<=<!-- {name} -->).*?(?=<!-- end of {name} -->)", lambda _, text=text: text, page
        )
        assert count == 1, f"{path} has no place for the {name}"
    return page


def _tables(path: Path) -> Mapping[str, Iterable[str]]:
    if path == TUNING:
        tuned = _found("tuning", "tuned")
        return {"table of tuned packages": _tuned(tuned) if tuned else ()}
    covered, speeds = _found("targets", "coverage"), _found("targets", "speed")
    targets = [cls() for cls in sorted(PACK.targets, key=lambda cls: (cls.name != "cpu", cls.name))]
    return {
        "table of targets": _targets(targets),
        "table of kernels": _kernels(targets),
        "table of agreement": _agreement(_found("targets", "agreement"), _found("targets", "precision")),
        "table of coverage": _coverage(covered) if covered else (),
        "table of speed": _speed(speeds) if speeds else (),
    }


def _found(file: str, name: str) -> list[dict[str, Any]]:
    """The tables of that name in a file of results; none where nothing was measured."""
    if not (RESULTS / f"{file}.json").is_file():
        return []
    tables = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))["tables"]
    return [table for table in tables if table["name"] == name]


def _agreement(found: Iterable[Mapping[str, Any]], precision: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    forms = {one["cell"]["model"]: {row["target"]: row["said"] for row in one["rows"]} for one in precision}
    for table in found:
        model = table["cell"]["model"]
        metrics = list(dict.fromkeys(key for row in table["rows"] for key in row if key in METRICS))
        yield f"`{model}` ({table['command']}, {table['date']}):"
        yield ""
        yield from _row("package", "beside", *(METRICS[key].label for key in metrics))
        yield from _row(*["---"] * (2 + len(metrics)))
        for row in table["rows"]:
            yield from _row(row["side"], row["beside"], *(_interval(row.get(key)) for key in metrics))
        yield ""
        said = "; ".join(f"`{target}` in {form}" for target, form in forms.get(model, {}).items())
        yield f"Products of float32 are computed: {said}."
        for note in table["notes"]:
            yield ""
            yield f"No package: {note}."
        yield ""


def _coverage(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield from _row("model", "package", "provider", "nodes", "elsewhere", "most of them", "why elsewhere")
    yield from _row(*["---"] * 7)
    for table in found:
        for row in table["rows"]:
            said = ("provider", "nodes", "elsewhere", "most", "why")
            cells = (
                [str(row[key]) for key in said] if "error" not in row else ["none", *["-"] * 3, row["error"]]
            )
            yield from _row(f"`{table['cell']['model']}`", row["target"], *cells)


def _speed(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield from _row(
        "model", "package", "times as fast as `cpu`", "first call or token", "beside itself", "blocks"
    )
    yield from _row(*["---"] * 6)
    for table in found:
        for row in table["rows"]:
            cells = (_interval(row.get(key)) for key in ("times", "first", "control"))
            yield from _row(f"`{table['cell']['model']}`", row["target"], *cells, str(table["rounds"]))


def _tuned(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield from _row(
        "package", "timed", "found", "tuned, times as fast", "first call or token", "beside itself", "blocks"
    )
    yield from _row(*["---"] * 7)
    for table in found:
        for row in table["rows"]:
            cells = (_interval(row.get(key)) for key in ("times", "first", "control"))
            yield from _row(row["package"], row["measured"], row["found"], *cells, str(table["rounds"]))


def _interval(found: Mapping[str, float] | None) -> str:
    """A figure with its interval; what is not measured is none."""
    if found is None:
        return "-"
    return f"{found['value']:.4g} ({found['low']:.4g} to {found['high']:.4g})"


def _targets(targets: Iterable[Target]) -> Iterator[str]:
    yield from _row("target", "what it is", "wheels", "last run", "recipe", "what is missing here")
    yield from _row(*["---"] * 6)
    for target in targets:
        wheels, run, recipe = "`onnxruntime`", "in every test run", target.recipe
        if isinstance(target, DescribedTarget):
            said = target.description
            wheels = ", ".join(f"`{need}`" for need in said.wheels.needs)
            if own := said.wheels.interpreter:
                wheels = f"in a Python of its own: {', '.join(f'`{need}`' for need in own)}"
            if said.wheels.instead_of:
                wheels += f", instead of {', '.join(f'`{name}`' for name in said.wheels.instead_of)}"
            run = "*never run*" if said.last_run == _NEVER else said.last_run
        yield from _row(
            f"`{target.name}`",
            target.title(),
            wheels,
            run,
            f"`{recipe}`" if recipe else "the family's",
            f"`graphopt targets doctor {target.name}`",
        )


def _kernels(targets: Iterable[Target]) -> Iterator[str]:
    yield from _row("target", "operators", "from", "of", "on", f"without their forms of opset {_OPSET}")
    yield from _row(*["---"] * 6)
    for target in targets:
        if not isinstance(target, DescribedTarget) or (tables := target.description.operators) is None:
            continue
        count = sum(len(table) for table in tables.domains.values())
        older = ", ".join(_older(tables)) or "none"
        yield from _row(
            f"`{target.name}`", str(count), tables.source, tables.version, str(tables.date), older
        )


def _older(tables: OperatorTables) -> Iterator[str]:
    """Operators of ONNX with a kernel for an older form than is in force at the canonical opset."""
    for op_type, texts in tables.domains["ai.onnx"].items():
        try:
            schema = onnx.defs.get_schema(op_type, _OPSET, "")
        except onnx.defs.SchemaError:
            continue
        forms = [KernelForm.read(text, tables.types) for text in texts]
        if not schema.deprecated and not any(f.is_of(_OPSET, schema.since_version) for f in forms):
            yield op_type


def _row(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for path in (PAGE, TUNING):
        path.write_text(written(path), encoding="utf-8")
