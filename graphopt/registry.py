"""Finds passes, recipes, targets and model families through entry points; built-in packs get no other door.

A distribution registers one `Pack` per group (`graphopt.passes`, `graphopt.targets`, `graphopt.models`).
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graphopt.errors import BadInput, EnvironmentProblem

if TYPE_CHECKING:
    from graphopt.families import Family
    from graphopt.pipeline import Pass
    from graphopt.targets import Target

__all__ = [
    "Pack",
    "PackOrigin",
    "embedded_models",
    "families",
    "nearest",
    "origins",
    "passes",
    "recipes",
    "resolve",
    "targets",
]

GROUPS = ("graphopt.passes", "graphopt.targets", "graphopt.models")
T = TypeVar("T")


@dataclass(frozen=True)
class Pack:
    """What one distribution brings to one entry-point group.

    `recipes` is a folder of TOML files; `models` maps the name of an embedded model to its folder.
    """

    passes: tuple[type[Pass], ...] = ()
    recipes: Path | None = None
    targets: tuple[type[Target], ...] = ()
    families: tuple[type[Family], ...] = ()
    models: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class PackOrigin:
    """Where a pack came from, for the lock file and for messages about clashes."""

    group: str
    entry_point: str
    distribution: str
    version: str


@functools.cache
def _packs(group: str) -> tuple[tuple[PackOrigin, Pack], ...]:
    return tuple(
        (_origin(group, point), _load(point))
        for point in sorted(entry_points(group=group), key=lambda p: p.value)
    )


def _origin(group: str, point: EntryPoint) -> PackOrigin:
    dist = point.dist
    return PackOrigin(group, point.name, dist.name if dist else "?", dist.version if dist else "?")


def _load(point: EntryPoint) -> Pack:
    try:
        pack = point.load()
    except Exception as error:
        raise EnvironmentProblem(
            f"plugin {point.name!r} ({point.value}) cannot be imported: {error}",
            hint="Uninstall or repair the distribution that provides it.",
        ) from error
    if not isinstance(pack, Pack):
        raise EnvironmentProblem(f"plugin {point.name!r} ({point.value}) is not a graphopt.registry.Pack")
    return pack


def origins() -> tuple[PackOrigin, ...]:
    """Every pack in use, with the distribution and version it came from."""
    return tuple(origin for group in GROUPS for origin, _ in _packs(group))


def _collect(group: str, kind: str, items: Callable[[Pack], Iterable[tuple[str, T]]]) -> dict[str, T]:
    found: dict[str, T] = {}
    owner: dict[str, PackOrigin] = {}
    for origin, pack in _packs(group):
        for name, item in items(pack):
            if name in found:
                raise EnvironmentProblem(
                    f"two {kind} are called {name!r}: one from {owner[name].distribution}, "
                    f"one from {origin.distribution}",
                    hint="Uninstall one of the two distributions.",
                )
            found[name], owner[name] = item, origin
    return found


@functools.cache
def passes() -> Mapping[str, type[Pass]]:
    """Pass classes by name."""
    return _collect("graphopt.passes", "passes", lambda pack: ((p.name, p) for p in pack.passes))


@functools.cache
def recipes() -> Mapping[str, Path]:
    """Recipe files by name (the file's stem)."""
    return _collect(
        "graphopt.passes",
        "recipes",
        lambda pack: ((p.stem, p) for p in sorted(pack.recipes.glob("*.toml"))) if pack.recipes else (),
    )


@functools.cache
def targets() -> Mapping[str, type[Target]]:
    """Target classes by name."""
    return _collect("graphopt.targets", "targets", lambda pack: ((t.name, t) for t in pack.targets))


@functools.cache
def families() -> Mapping[str, type[Family]]:
    """Model family classes by name, in the order their packs list them."""
    return _collect("graphopt.models", "model families", lambda pack: ((f.name, f) for f in pack.families))


@functools.cache
def embedded_models() -> Mapping[str, Path]:
    """Folders of the models that ship inside an installed pack, by name."""
    return _collect("graphopt.models", "embedded models", lambda pack: pack.models.items())


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to a mistyped one, or None where nothing is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def resolve(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """`known[name]`, or a `BadInput` that suggests the nearest name."""
    if name in known:
        return known[name]
    near = nearest(name, known)
    listing = ", ".join(sorted(known)) or "none is installed"
    raise BadInput(
        f"unknown {kind} {name!r}",
        hint=f"Did you mean {near!r}? Known: {listing}." if near else f"Known: {listing}.",
    )
