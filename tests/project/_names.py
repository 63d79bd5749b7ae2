"""Reads string constants from source text: which names of packs and operators graphopt knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.project._imports import modules

OPERATORS = Path("graphopt/ir/operators.py")
"""The module that may name onnxruntime's operators."""


def known_names(root: Path, names: Collection[str], operators: Collection[str]) -> list[tuple[str, str]]:
    """Each file of `root`/graphopt and a name that a string in it is, or has in it if it is no single word.

    Docstrings and `__all__` name nothing to the program.
    """
    words = re.compile(
        "|".join(rf"(?<![\w-]){re.escape(n)}(?![\w-])" for n in names if not n.isalnum()) or "(?!)"
    )
    found = set()
    for path in modules(root / "graphopt"):
        place = path.relative_to(root)
        banned = {*names, *(operators if place != OPERATORS else ())}
        for text in _strings(ast.parse(path.read_text(), str(path))):
            found |= {(str(place), name) for name in [text.strip() if text.strip() in banned else ""] if name}
            found |= {(str(place), name) for name in words.findall(text)}
    return sorted(found)


def _strings(tree: ast.Module) -> Iterator[str]:
    silent = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent.add(node.value)
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
        ):
            silent |= {each for each in ast.walk(node.value) if isinstance(each, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in silent:
            yield node.value
