"""What graphopt offers is a list that changes only on purpose."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import graphopt
from tests._cache import ROOT

LISTING = ROOT / "tests" / "project" / "public_api.txt"


def public_modules() -> Iterator[str]:
    yield "graphopt"
    for module in pkgutil.walk_packages(graphopt.__path__, "graphopt."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            yield module.name


def offered() -> list[str]:
    return [
        f"{module}: {name}"
        for module in public_modules()
        for name in sorted(importlib.import_module(module).__all__)
    ]


@pytest.mark.parametrize("module", list(public_modules()))
def test_every_public_module_lists_its_names(module: str) -> None:
    found = importlib.import_module(module)

    assert len(found.__all__) == len(set(found.__all__))
    assert [name for name in found.__all__ if not hasattr(found, name)] == []
    assert found.__doc__, f"{module} has no docstring"


def test_the_public_names_are_the_listed_ones() -> None:
    now = "\n".join(offered()) + "\n"

    assert now == LISTING.read_text(), (
        "The public names changed. If that is meant, say so in CHANGELOG.md and run\n"
        "    python -m tests.project.test_public_api"
    )


def test_the_changelog_says_where_names_are_now() -> None:
    rows = [line.split(" | ") for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if " | `" in line]
    moved = [(row[1].strip("`"), re.findall(r"`(\w+)`", row[2])) for row in rows if len(row) == 3]
    missing = [f"{m}: {n}" for m, names in moved for n in names if not hasattr(importlib.import_module(m), n)]

    assert len(moved) > 10
    assert missing == []


if __name__ == "__main__":
    LISTING.write_text("\n".join(offered()) + "\n")
