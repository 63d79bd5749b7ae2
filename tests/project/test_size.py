"""No function is longer than a page: 60 lines, from its `def` to its end, docstring and all."""

from __future__ import annotations

import ast
from pathlib import Path

from tests._cache import ROOT

FOLDERS = ("graphopt", "passes", "targets", "models")
LONGEST = 60
TOO_LONG = {}
"""What was longer when this began, and how long at most; entries go or shrink, and none is added."""


def lengths(path: Path) -> dict[str, int]:
    """Lines of every function in the file, by its qualified name; decorators do not count."""
    found: dict[str, int] = {}

    def walk(node: ast.AST, around: str) -> None:
        for child in ast.iter_child_nodes(node):
            within = around
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                within = f"{around}.{child.name}" if around else child.name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                assert child.end_lineno is not None
                length = child.end_lineno - child.lineno + 1
                found[within] = max(length, found.get(within, 0))
            walk(child, within)

    walk(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


def too_long() -> dict[str, int]:
    return {
        f"{path.relative_to(ROOT)}: {name}": length
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, length in lengths(path).items()
        if length > LONGEST
    }


def test_no_function_is_longer_than_a_page() -> None:
    found = too_long()

    assert {name: length for name, length in found.items() if length > TOO_LONG.get(name, LONGEST)} == {}
    assert TOO_LONG.keys() - found.keys() == set(), "these are short now: take them off the list"


def test_a_function_is_as_long_as_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(
        "@a\n@b\ndef f(\n    x,\n):\n    'said'\n\n    return x\n\n"
        "class C:\n    def g(self):\n        def h(): ...\n"
    )

    assert lengths(path) == {"f": 6, "C.g": 2, "C.g.h": 1}
