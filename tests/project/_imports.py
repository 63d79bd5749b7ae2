"""Reads imports from source text: who may import what is checked without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKS = ("passes", "targets", "models")


def modules(folder: Path) -> Iterator[Path]:
    """Every Python file below `folder`."""
    return (p for p in sorted(folder.rglob("*.py")) if "__pycache__" not in p.parts)


def contract_violations(root: Path) -> list[str]:
    """Each import by which graphopt knows a pack, or a pack more of graphopt than its public names."""
    found = []
    for path in modules(root / "graphopt"):
        found += [_say(root, path, line, why) for line, why in _pack_imports(path)]
    for pack in PACKS:
        for path in modules(root / pack):
            found += [_say(root, path, line, why) for line, why in _pack_imports(path)]
            found += [_say(root, path, line, why) for line, why in _private_imports(root, path, root / pack)]
    return found


def exported(root: Path, module: str) -> set[str] | None:
    """The names in `__all__` of a module and its public submodules; None where there is no such module."""
    folder = root.joinpath(*module.split("."))
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    if not path.is_file():
        return None
    names: set[str] = set()
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__all__" for t in statement.targets
        ):
            names |= set(ast.literal_eval(statement.value))
    if folder.is_dir():
        names |= {p.stem for p in folder.iterdir() if not p.name.startswith("_")}
    return names


def _imports(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node


def _pack_imports(path: Path) -> Iterator[tuple[int, str]]:
    banned = {*PACKS, *(f"graphopt_{pack}" for pack in PACKS)}
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        match node:
            case ast.Import(names=names):
                heads = [alias.name.split(".")[0] for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                heads = [module.split(".")[0]]
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]) if _imports_by_text(
                function
            ):
                heads = [name.split(".")[0]]
            case _:
                continue
        for head in banned.intersection(heads):
            yield node.lineno, f"imports the pack {head!r} by name"


def _imports_by_text(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__", "find_spec"}


def _private_imports(root: Path, path: Path, pack: Path) -> Iterator[tuple[int, str]]:
    depth = len(path.relative_to(pack).parts)
    for node in _imports(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "graphopt":
                    yield (
                        node.lineno,
                        f"`import {alias.name}`: say which names, `from {alias.name} import ...`",
                    )
        elif node.level > depth:
            yield node.lineno, "a relative import that leaves the pack"
        elif node.level == 0 and (node.module or "").split(".")[0] == "graphopt":
            public = exported(root, node.module or "")
            private = any(part.startswith("_") for part in (node.module or "").split("."))
            for alias in node.names:
                if private or public is None or alias.name not in public:
                    yield node.lineno, f"{node.module}.{alias.name} is not public"


def _say(root: Path, path: Path, line: int, why: str) -> str:
    return f"{path.relative_to(root)}:{line}: {why}"
