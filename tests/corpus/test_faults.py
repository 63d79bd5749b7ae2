"""docs/faults.toml: every kind has its tests, and docs/coverage.md its table."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from tests._cache import ROOT
from tests.corpus.faults import FAULTS, PAGE, order, read, written_into

KEYS = {"id", "kind", "now", "tests"}


@functools.cache
def functions_of(path: Path) -> set[str]:
    """The test functions of a file, those of a class after its name."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + n.name for n in inside if isinstance(n, ast.FunctionDef) and n.name[:4] == "test"}
    return found


def is_there(test: str) -> bool:
    path, _, name = test.partition("::")
    return (ROOT / path).is_file() and name.partition("[")[0] in functions_of(ROOT / path)


def test_every_entry_is_whole_and_they_are_sorted() -> None:
    entries = read()

    assert [e for e in entries if set(e) != KEYS or not e["tests"] or "\n" in e["kind"] + e["now"]] == []
    assert entries == sorted(entries, key=order)
    assert len({e["kind"] for e in entries}) == len(entries)


def test_every_named_test_exists() -> None:
    assert [test for entry in read() for test in entry["tests"] if not is_there(test)] == []
    assert not is_there("tests/corpus/test_faults.py::test_that_nobody_wrote")
    assert not is_there("tests/corpus/test_absent.py::test_every_named_test_exists")


def test_the_page_has_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == written_into(page, read()), "run `python -m tests.corpus.faults`"


def test_the_table_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / FAULTS.name
    path.write_text(
        """[[fault]]
        id = "A2"
        kind = "less < more"
        now = "refused | named"
        tests = ["tests/corpus/test_faults.py::test_every_named_test_exists"]
        """
    )
    before = "# Page\n\n## What strangers' models showed\n\nold\n\n## After\n\nnew\n"
    filled = written_into(before, read(path))

    assert "| less &lt; more | refused \\| named | [test_every_named_test_exists](../tests/corpus" in filled
    assert filled.startswith("# Page\n\n## What")
    assert filled.endswith("|\n\n## After\n\nnew\n")
    assert "old" not in filled
    assert written_into(filled, read(path)) == filled


def test_ids_are_sorted_by_their_numbers() -> None:
    assert sorted(["B12", "A11", "A2", "C-b", "C-a", "A1"], key=lambda i: order({"id": i})) == [
        "A1",
        "A2",
        "A11",
        "B12",
        "C-a",
        "C-b",
    ]
