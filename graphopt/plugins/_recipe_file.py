"""Recipe files: TOML, of which one may extend another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from graphopt.errors import BadInput
from graphopt.io import nearest, read_toml
from graphopt.plugins import registry
from graphopt.recipes import Budget, Recipe, Step

__all__ = ["read_recipe", "recipe_path"]

_LOWER = "@lower"


class _StepTable(BaseModel):
    """A pass with its options. In `[[pass]]` also the name of a group, or what the target asks for."""

    model_config = ConfigDict(extra="allow")
    name: str

    @property
    def is_group(self) -> bool:
        return self.name.startswith("@")


class _RecipeFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    _path: Path = PrivateAttr()
    description: str = ""
    extends: str | None = None
    budget: Budget | None = None
    alternatives: list[list[str]] | None = None
    steps: list[_StepTable] | None = Field(default=None, alias="pass")
    groups: dict[str, list[_StepTable]] = Field(default_factory=dict, alias="group")

    @classmethod
    def read(cls, path: Path) -> _RecipeFile:
        try:
            file = cls.model_validate(read_toml(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"recipe {path}: {where}: {first['msg']}") from error
        file._path = path
        return file

    @property
    def path(self) -> Path:
        return self._path

    @property
    def name(self) -> str:
        return self._path.stem


def read_recipe(path: Path) -> Recipe:
    """The recipe in the TOML file at `path`, with all that it extends and its groups written out.

    What a recipe says takes the place of what the one it extends says: its budget, its alternatives, its
    steps, each group.
    """
    files = list(_extended(path))
    budget = next((file.budget for file in files if file.budget is not None), Budget())
    at = next((at for at, file in enumerate(files) if file.steps is not None), None)
    if at is None:
        raise BadInput(
            f"recipe {path}: neither it nor what it extends has steps",
            hint='Say [[pass]] and name = "PASS" for each, or extends = "lossless".',
        )
    groups = {name: (file, steps) for file in reversed(files) for name, steps in file.groups.items()}
    for file in files:
        _check_groups(file)
    for file in files[: at + 1]:  # a recipe with steps of its own need not name the groups it extends
        _check_named(file, files[at].steps or ())
    steps = tuple(_steps(files[at], groups))
    alternatives = next((file.alternatives for file in files if file.alternatives is not None), [])
    names = {step.name for step in steps}
    for name in (name for alternative in alternatives for name in alternative):
        if name not in names:
            raise BadInput(f"recipe {path}: alternatives: no step is called {name!r}")
    return Recipe(path.stem, files[0].description, budget, steps, tuple(map(tuple, alternatives)))


def _extended(path: Path) -> Iterator[_RecipeFile]:
    """The file at `path`, the one that it extends, the one that that extends, …"""
    chain: list[Path] = []
    while True:
        chain.append(path.resolve())
        if chain[-1] in chain[:-1]:
            names = " extends ".join(file.stem for file in chain)
            raise BadInput(f"recipe {path} extends itself: {names}")
        file = _RecipeFile.read(path)
        yield file
        if file.extends is None:
            return
        path = _found(file.extends, file.path)


def _found(name: str, extending: Path) -> Path:
    try:
        return recipe_path(name, extending.parent)
    except BadInput as error:
        raise BadInput(f"recipe {extending}: extends: {error.message}", hint=error.hint) from error


def recipe_path(name: str, folder: Path) -> Path:
    """The file of the installed recipe called `name`, or the TOML file of that path from `folder`."""
    if not name.endswith(".toml"):
        path: Path = registry.resolve("recipe", name, registry.recipes())
        return path
    if not (folder / name).is_file():
        raise BadInput(f"recipe file {name} does not exist")
    return folder / name


def _check_groups(file: _RecipeFile) -> None:
    for name, steps in file.groups.items():
        where = f"recipe {file.path}: group {name!r}"
        if f"@{name}" == _LOWER:
            raise BadInput(f"{where}: {_LOWER} is what the target asks for", hint="Call it something else.")
        if inner := next((step.name for step in steps if step.is_group), None):
            raise BadInput(f"{where} holds {inner!r}: groups hold passes, no groups")


def _check_named(file: _RecipeFile, steps: Sequence[_StepTable]) -> None:
    named = list(dict.fromkeys(step.name for step in steps if step.is_group))
    for name in file.groups:
        if f"@{name}" not in named:
            raise BadInput(
                f"recipe {file.path}: group {name!r}: no step says @{name}",
                hint=_known(f"@{name}", [group for group in named if group != _LOWER]),
            )


def _steps(file: _RecipeFile, groups: dict[str, tuple[_RecipeFile, list[_StepTable]]]) -> Iterator[Step]:
    for number, step in enumerate(file.steps or (), 1):
        where = f"recipe {file.path}: [[pass]] {number}"
        if not step.is_group:
            yield _step(step, file.name)
            continue
        if step.model_extra:
            raise BadInput(f"{where}: {step.name} takes no options", hint="Give them to passes of the group.")
        if step.name == _LOWER:
            yield _step(step, f"what the target asks for, in {file.name}")
        elif (group := groups.get(step.name[1:])) is not None:
            yield from (_step(inner, f"{step.name} of {group[0].name}") for inner in group[1])
        else:
            known = [_LOWER, *(f"@{name}" for name in groups)]
            raise BadInput(f"{where}: there is no group {step.name}", hint=_known(step.name, known))


def _step(table: _StepTable, origin: str) -> Step:
    return Step(table.name, dict(table.model_extra or {}), origin)


def _known(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    return (f"Did you mean {near!r}? " if near else "") + f"Known: {', '.join(known) or 'none'}."
