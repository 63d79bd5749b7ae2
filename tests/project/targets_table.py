"""Writes the tables of docs/targets.md from what targets say: `python -m tests.project.targets_table`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import onnx
from graphopt_targets import PACK

from graphopt.targets import DescribedTarget, KernelForm, OperatorTables, Target
from tests._cache import ROOT

PAGE = ROOT / "docs/targets.md"
_NEVER = "never"
_OPSET = 23


def written(page: str) -> str:
    """`page` with what stands between `<!-- NAME -->` and `<!-- end of NAME -->` made anew."""
    targets = [cls() for cls in sorted(PACK.targets, key=lambda cls: (cls.name != "cpu", cls.name))]
    for name, lines in (("table of targets", _targets(targets)), ("table of kernels", _kernels(targets))):
        text = "\n".join(("", "", *lines, "", ""))
        page, count = re.subn(
            rf"(?s)(?<=<!-- {name} -->).*?(?=<!-- end of {name} -->)", lambda _, text=text: text, page
        )
        assert count == 1, f"{PAGE} has no place for the {name}"
    return page


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
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
