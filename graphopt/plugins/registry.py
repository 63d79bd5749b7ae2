"""Finds passes, recipes, targets and model families through entry points; built-in packs get no other door.

A distribution registers one `Pack` per group (`graphopt.passes`, `graphopt.targets`, `graphopt.models`). A
plugin that cannot be imported is left out, with a line on stderr; so is, unimported, one that `[plugins]
allow` of ./graphopt.toml does not list. What is found is kept for the life of the process.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graphopt.errors import BadInput, EnvironmentProblem, GraphoptError
from graphopt.io import nearest
from graphopt.plugins._allowed import BUILT_IN, Allowed
from graphopt.plugins._pack_check import validate_pack

if TYPE_CHECKING:
    from graphopt.families import Family
    from graphopt.lint import Rule
    from graphopt.pipeline import Pass
    from graphopt.targets import Target

__all__ = [
    "LeftOut",
    "Pack",
    "PackOrigin",
    "allowed",
    "allowing",
    "allows_any",
    "built_in_only",
    "default_target",
    "distribution_packs",
    "embedded_models",
    "families",
    "left_out",
    "origins",
    "passes",
    "recipes",
    "resolve",
    "rules",
    "targets",
]

GROUPS = ("graphopt.passes", "graphopt.targets", "graphopt.models")
T = TypeVar("T")


@dataclass(frozen=True)
class Pack:
    """What one distribution brings to one entry-point group.

    `recipes` is a folder of TOML files, `examples` one of golden files: graphs that the passes work on, from
    which the conformance kit starts. `models` maps the name of an embedded model to its folder. `rules` are
    what `graphopt lint` looks for: they stand in the group of what knows them, or of what mends it.
    """

    passes: tuple[type[Pass], ...] = ()
    recipes: Path | None = None
    examples: Path | None = None
    targets: tuple[type[Target], ...] = ()
    families: tuple[type[Family], ...] = ()
    models: Mapping[str, Path] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class PackOrigin:
    """Where a pack came from, for the lock file and for messages about clashes."""

    group: str
    entry_point: str
    distribution: str
    version: str
    module: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class LeftOut:
    """A plugin that is installed and not in use, and why."""

    origin: PackOrigin
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.origin.entry_point!r} of {self.origin} is left out: {self.reason}"


class _Broken(Exception):
    """A plugin that brings no usable pack."""


@dataclass(frozen=True)
class _Found:
    packs: tuple[tuple[PackOrigin, Pack], ...]
    left_out: tuple[LeftOut, ...]


PLUGIN_HINT = "Tell its author, or leave plugins out with --no-plugins."
_switched: list[Allowed] = []
_plugins: dict[str, PackOrigin] = {}


@contextlib.contextmanager
def built_in_only() -> Iterator[None]:
    """Within the block only graphopt's own packs are found, and no plugin is imported."""
    with allowing(Allowed.built_in()):
        yield


@contextlib.contextmanager
def allowing(allowed: Allowed) -> Iterator[None]:
    """Within the block only packs of these distributions are found, whatever graphopt.toml says."""
    _switched.append(allowed)
    try:
        yield
    finally:
        _switched.pop()


def allowed() -> Allowed:
    """Which distributions may bring packs here and now."""
    return _switched[-1] if _switched else _configured()


def allows_any() -> bool:
    """Whether code of anybody may run: not where plugins are switched off or only some are allowed."""
    return allowed().names is None


@functools.cache
def _configured() -> Allowed:
    return Allowed.configured(Path.cwd())


def _packs(group: str) -> _Found:
    return _load_group(group, allowed())


@functools.cache
def _load_group(group: str, allowed: Allowed) -> _Found:
    packs: list[tuple[PackOrigin, Pack]] = []
    left_out: list[LeftOut] = []
    for point in sorted(_entry_points(group), key=lambda p: p.value):
        origin = _origin(group, point)
        if origin.distribution not in allowed:
            left_out.append(LeftOut(origin, allowed.reason))
            continue
        if origin.distribution != BUILT_IN:
            _plugins[origin.module.partition(".")[0]] = origin
        try:
            packs.append((origin, _load(point)))
        except _Broken as error:
            if origin.distribution == BUILT_IN:
                raise EnvironmentProblem(
                    f"graphopt's own {point.value} {error}", hint="Install graphopt again."
                ) from error
            left_out.append(LeftOut(origin, str(error)))
            print(f"warning: {left_out[-1]}", file=sys.stderr)
    return _Found(tuple(packs), tuple(left_out))


def _entry_points(group: str) -> Iterable[EntryPoint]:
    try:
        return entry_points(group=group)
    except Exception:
        return _readable_entry_points(group)


def _readable_entry_points(group: str) -> Iterator[EntryPoint]:
    """Entry points of every distribution but those, of anyone's, whose files are damaged."""
    seen = set()
    for distribution in distributions():
        try:
            name, points = distribution.name, distribution.entry_points
        except Exception as error:
            print(f"warning: an installed distribution is left out: {error}", file=sys.stderr)
            continue
        if name not in seen:
            seen.add(name)
            yield from points.select(group=group)


def _origin(group: str, point: EntryPoint) -> PackOrigin:
    try:
        named = (point.dist.name, point.dist.version) if point.dist else (None, None)
    except Exception:  # its metadata are damaged
        named = (None, None)
    name, version = (text or "?" for text in named)
    return PackOrigin(group, point.name, name, version, point.value.partition(":")[0])


def _load(point: EntryPoint) -> Pack:
    try:
        pack = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _Broken(f"cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(pack, Pack):
        raise _Broken(f"{point.value} is not a graphopt.plugins.Pack")
    if (wrong := validate_pack(pack)) is not None:
        raise _Broken(f"{point.value}: {wrong}")
    return pack


def origins() -> tuple[PackOrigin, ...]:
    """Every pack in use, with the distribution and version it came from."""
    return tuple(origin for group in GROUPS for origin, _ in _packs(group).packs)


def left_out() -> tuple[LeftOut, ...]:
    """Every plugin that is installed and not in use."""
    return tuple(plugin for group in GROUPS for plugin in _packs(group).left_out)


def plugin_of(module: str) -> PackOrigin | None:
    """The plugin that the imported `module` belongs to, if one was met so far."""
    return _plugins.get(module.partition(".")[0])


@contextlib.contextmanager
def answerable(cls: type) -> Iterator[None]:
    """Within the block, what a plugin's class does is under way: `EnvironmentProblem` for what goes wrong."""
    try:
        yield
    except (GraphoptError, OSError, MemoryError):
        raise
    except Exception as error:
        origin = plugin_of(cls.__module__)
        if origin is None:
            raise
        raise EnvironmentProblem(failure(origin, error), hint=PLUGIN_HINT) from error


def failure(origin: PackOrigin, error: BaseException) -> str:
    """What to say of an `error` that a plugin is to blame for, with the line of it that failed."""
    where = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if plugin_of(frame.f_globals.get("__name__", "")) == origin:
            where = f" ({frame.f_code.co_filename}, line {line})"
    return f"plugin {origin.entry_point!r} of {origin} failed: {type(error).__name__}: {error}{where}"


def distribution_packs(distribution: str) -> tuple[Pack, ...]:
    """The packs in use that the installed `distribution` brings; `BadInput` where there is none."""
    known: dict[str, list[Pack]] = {}
    for group in GROUPS:
        for origin, pack in _packs(group).packs:
            known.setdefault(origin.distribution, []).append(pack)
    return tuple(resolve("distribution with plugins", distribution, known))


def _collect(
    group: str | tuple[str, ...], kind: str, items: Callable[[Pack], Iterable[tuple[str, T]]]
) -> dict[str, T]:
    found: dict[str, T] = {}
    owner: dict[str, PackOrigin] = {}
    groups = (group,) if isinstance(group, str) else group
    for origin, pack in (pair for each in groups for pair in _packs(each).packs):
        for name, item in items(pack):
            if name in found:
                raise EnvironmentProblem(
                    f"two {kind} are called {name!r}: one from {owner[name].distribution}, "
                    f"one from {origin.distribution}",
                    hint="Uninstall one of the two distributions, or leave plugins out with --no-plugins.",
                )
            found[name], owner[name] = item, origin
    return found


def passes() -> Mapping[str, type[Pass]]:
    """Pass classes by name."""
    return _collect("graphopt.passes", "passes", lambda pack: ((p.name, p) for p in pack.passes))


def recipes() -> Mapping[str, Path]:
    """Recipe files by name (the file's stem)."""
    return _collect(
        "graphopt.passes",
        "recipes",
        lambda pack: ((p.stem, p) for p in sorted(pack.recipes.glob("*.toml"))) if pack.recipes else (),
    )


def targets() -> Mapping[str, type[Target]]:
    """Target classes by name."""
    return _collect("graphopt.targets", "targets", lambda pack: ((t.name, t) for t in pack.targets))


def default_target() -> type[Target]:
    """The target that packages are for where none is named: the first that graphopt itself brings."""
    packs = _packs("graphopt.targets").packs
    return next(t for origin, pack in packs if origin.distribution == BUILT_IN for t in pack.targets)


def families() -> Mapping[str, type[Family]]:
    """Model family classes by name, in the order their packs list them."""
    return _collect("graphopt.models", "model families", lambda pack: ((f.name, f) for f in pack.families))


def embedded_models() -> Mapping[str, Path]:
    """Folders of the models that ship inside an installed pack, by name."""
    return _collect("graphopt.models", "embedded models", lambda pack: pack.models.items())


def rules() -> Mapping[str, Rule]:
    """What `graphopt lint` looks for, by code; packs of every group may bring some."""
    return _collect(GROUPS, "rules", lambda pack: ((rule.code, rule) for rule in pack.rules))


def resolve(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """`known[name]`, or a `BadInput` that suggests the nearest name and tells which plugins are left out."""
    if name in known:
        return known[name]
    near = nearest(name, known)
    listing = ", ".join(sorted(known)) or "none is installed"
    hints = [f"Did you mean {near!r}? Known: {listing}." if near else f"Known: {listing}."]
    hints += [f"It may be from a plugin that is not in use: {plugin}." for plugin in left_out()]
    raise BadInput(f"unknown {kind} {name!r}", hint="\n  ".join(hints))
