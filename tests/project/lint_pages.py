"""Writes a page for each rule of graphopt's own, from the rule: `python -m tests.project.lint_pages`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import fill

from graphopt.lint import Rule
from graphopt.plugins import registry
from tests._cache import ROOT

__all__ = ["FOLDER", "pages"]

FOLDER = Path("docs/lint")
_WIDTH = 120


def pages(rules: Mapping[str, Rule]) -> dict[str, str]:
    """What each file of `FOLDER` holds, by name."""
    ours = [rule for code, rule in sorted(rules.items()) if code.startswith("GO")]
    return {f"{rule.code}.md": _page(rule) for rule in ours} | {"README.md": _index(ours)}


def _page(rule: Rule) -> str:
    if rule.mends:
        names = ", ".join(f"`{step.name}`" for step in rule.mends)
        mended = f"`graphopt lint --fix` mends it by {names}."
    else:
        mended = "`--fix` does not mend it."
    parts = [
        f"# {rule.code}: {rule.name}",
        f"*{rule.severity}*. {mended}",
        _filled(rule.summary),
        "## Why",
        *map(_filled, rule.why.split("\n\n")),
        "## What to do",
        _filled(rule.remedy),
        "[All rules](README.md)",
    ]
    return "\n\n".join(parts) + "\n"


def _index(rules: Iterable[Rule]) -> str:
    rows = [
        f"| [{rule.code}]({rule.code}.md) | {rule.name} | {rule.severity} | {rule.summary} | "
        f"{', '.join(f'`{step.name}`' for step in rule.mends)} |"
        for rule in rules
    ]
    return "\n".join(
        [
            "# What `graphopt lint` looks for",
            "",
            "One page a rule; [how to use it](../lint.md). Written by `python -m tests.project.lint_pages`.",
            "",
            "| code | name | severity | what | mended by |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _filled(text: str) -> str:
    return fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    for name, text in pages(registry.rules()).items():
        (ROOT / FOLDER / name).write_text(text, encoding="utf-8")
