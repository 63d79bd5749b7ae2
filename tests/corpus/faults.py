"""Write the kinds of docs/faults.toml into docs/coverage.md, as a table: `python -m tests.corpus.faults`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests._cache import ROOT

__all__ = ["FAULTS", "NETS", "PAGE", "kept", "order", "read", "replaced", "section", "written_into"]

FAULTS = ROOT / "docs" / "faults.toml"
PAGE = ROOT / "docs" / "coverage.md"
NETS = "## Exported nets"
"""The title of the section that `benchmarks/render.py` writes."""
TITLE = "## What strangers' models showed"


def read(path: Path = FAULTS) -> list[dict[str, Any]]:
    """Its entries: each has an `id`, a `kind`, what is done `now`, and the `tests` that hold it."""
    return list(tomllib.loads(path.read_text(encoding="utf-8")).get("fault", []))


def order(entry: dict[str, Any]) -> list[tuple[int, str]]:
    """What entries are sorted by: the id, its numbers as numbers."""
    return [(int(n or 0), text) for n, text in re.findall(r"(\d+)|(\D+)", entry["id"])]


def section(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of the page's section."""
    yield TITLE + "\n"
    yield (
        "Kinds of faults that models nobody here wrote have shown, what is done now, and the tests that fail "
        "without it. `python -m tests.corpus.faults` writes this table from [faults.toml](faults.toml).\n"
    )
    yield "| kind | now | tests |"
    yield "|---|---|---|"
    for entry in entries:
        tests = "<br>".join(_linked(name) for name in entry["tests"])
        yield f"| {_cell(entry['kind'])} | {_cell(entry['now'])} | {tests} |"
    yield ""


def written_into(page: str, entries: list[dict[str, Any]]) -> str:
    """`page` with the section in place of the one that it has."""
    return replaced(page, section(entries))


def replaced(page: str, lines: Iterable[str]) -> str:
    """`page` with a section, the first of whose `lines` is its title, in place of the one of that title."""
    text = "\n".join(lines)
    title = text.partition("\n")[0]
    head, found, rest = page.partition(title + "\n")
    if not found:
        raise ValueError(f"the page has no section {title!r}")
    _, heading, after = rest.partition("\n## ")
    return (head + text + heading + after).rstrip() + "\n"


def kept(page: str, title: str) -> str:
    """The section of that title as `page` has it; nothing where it has none."""
    _, found, rest = page.partition(f"{title}\n")
    return found + rest.partition("\n## ")[0] if found else ""


def _linked(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[{name}](../{path})"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


if __name__ == "__main__":
    PAGE.write_text(written_into(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")
