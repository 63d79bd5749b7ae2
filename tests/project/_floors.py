"""The floors of the house, and every import that does not go down them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FLOORS", "KEPT_FREE", "imports_of", "modules", "room_of", "upward_imports"]

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "metrics", "recipes"),
    ("io", "ir"),
    ("interface",),
    ("families", "runtime", "diff"),
    ("targets",),
    ("calibrate", "plan", "lint", "machine"),
    ("pipeline", "cost"),
    ("plugins", "verify", "importers"),
    ("export", "package", "testing"),
    ("cache", "evaluate"),
    ("report",),
    ("build", "gate"),
    ("bisect", "sweep"),
    ("planner",),
    ("cli",),
)
"""The rooms of `graphopt`, its packages and modules, from the ground up."""

KEPT_FREE: dict[str, str] = {}
"""Rooms that are planned, each with one that stands on the floor where it will."""

_ROOF = ("__init__", "__main__")
"""What stands above every room: `import graphopt`, and `python -m graphopt`."""
_DATA = ("templates", "corpus")
"""Folders of files that are copied or read, not imported."""


def modules(root: Path) -> Iterator[Path]:
    """Every module of `root`/graphopt that has a room."""
    for path in sorted((root / "graphopt").rglob("*.py")):
        inside = path.relative_to(root / "graphopt")
        if not set(inside.parts) & set(_DATA) and inside.as_posix().removesuffix(".py") not in _ROOF:
            yield path


def room_of(path: Path, root: Path) -> str:
    """The room that the module at `path` is in."""
    return path.relative_to(root / "graphopt").parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line, and names below `graphopt`, of each import of it: lazy ones and those for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "graphopt":
            yield from ((node.lineno, (alias.name,)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("graphopt."):
            yield node.lineno, tuple((node.module or "").split(".")[1:])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("graphopt."):
                    yield node.lineno, tuple(alias.name.split(".")[1:])


def upward_imports(root: Path) -> list[str]:
    """Imports of `root`/graphopt that do not go to a lower floor, or go past the door of another room."""
    floor = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
    found = []
    for path in modules(root):
        here, place = room_of(path, root), path.relative_to(root).as_posix()
        if here not in floor:
            found.append(f"{place}: the room {here!r} is on no floor")
            continue
        for line, (there, *inner) in imports_of(path):
            if there == here:
                continue
            if floor.get(there, len(FLOORS)) >= floor[here]:
                found.append(f"{place}:{line}: {here} imports {there}, which is not below it")
            elif inner and inner[0].startswith("_"):
                found.append(f"{place}:{line}: {here} imports the private {'.'.join((there, *inner))}")
    return found
