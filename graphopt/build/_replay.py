"""Making a package again from its lock, and saying what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from graphopt.errors import BadInput, CheckFailed
from graphopt.evaluate import SEED, Bindings
from graphopt.export import Source
from graphopt.io import digest_of
from graphopt.package import LOCK, Lock, LockedPack, packs, versions
from graphopt.recipes import Budget, OptimizeOptions, Recipe, Step

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["SEEDS", "Replay", "files_of"]

SEEDS = {"closing check": SEED}
_SHOWN = 20  # differences in a message: what is left of a screen


@dataclass(frozen=True)
class Replay:
    """A run that is to do what `lock` says, and end with the same bytes."""

    lock: Lock
    path: Path

    @classmethod
    def read(cls, path: Path) -> Replay:
        """The replay of a lock, or of the package that holds one. Raises `BadInput`."""
        path = path / LOCK if path.is_dir() else path
        try:
            return cls(Lock.model_validate_json(path.read_bytes()), path)
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"{path} is not a lock: {where or 'it'}: {first['msg']}") from error

    def options(self, asked: OptimizeOptions) -> OptimizeOptions:
        """`asked`, with what the lock decides. Raises `BadInput` where an option is given that it decides."""
        decided = {
            "--recipe": asked.recipe,
            "--set": asked.settings,
            "--budget": asked.budget,
            "--dim": asked.dims,
            "--stop-after": asked.stop_after,
        }
        for name, value in decided.items():
            if value:
                raise BadInput(
                    f"{name} cannot be given with --locked: {self.path} decides it", hint="Leave one out."
                )

        lock = self.lock
        return replace(
            asked,
            target=lock.target,
            task=lock.task,
            dims=tuple(f"{name}={','.join(map(str, values))}" for name, values in lock.dims.items()),
            verify=lock.verify,
            on_mismatch=lock.on_mismatch,
            stop_after=lock.stop_after,
            validate=lock.closing_check,
            cpu_fallback=lock.cpu_fallback,
        )

    def recipe(self) -> Recipe:
        """The recipe with every option resolved."""
        steps = (Step(step.name.partition("#")[0], step.options) for step in self.lock.steps)
        return Recipe(self.lock.recipe, "", Budget(**self.lock.budget), tuple(steps))

    def check(self, source: Source, target: Target, bindings: Bindings) -> None:
        """Raise `BadInput`, with a list, where anything that shaped the package is different here."""
        found = list(self._differences(source, target, bindings))
        if found:
            shown = found[:_SHOWN] + ([f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])
            raise BadInput(
                f"{self.path} cannot be followed here:\n    " + "\n    ".join(shown),
                hint="Restore what differs, or leave --locked out to make a new package.",
            )

    def compare(self, outputs: Mapping[str, str]) -> None:
        """Raise `CheckFailed` naming the files that are not what the lock says."""
        differing = [
            f"{name}{_how(self.lock.outputs.get(name), outputs.get(name))}"
            for name in sorted({*self.lock.outputs, *outputs})
            if self.lock.outputs.get(name) != outputs.get(name)
        ]
        if differing:
            raise CheckFailed(
                f"the package is not the one of {self.path}: {', '.join(differing)}",
                hint="Nothing was installed.",
            )

    def _differences(self, source: Source, target: Target, bindings: Bindings) -> Iterator[str]:
        lock = self.lock
        yield from _compared("version of ", lock.versions, versions(target.libraries))
        yield from _compared("code of ", _by_name(lock.packs), _by_name(packs()), short=True)
        yield from _compared("machine: ", lock.fingerprint, target.fingerprint())
        yield from _compared("seed of ", lock.seeds, SEEDS)
        here = files_of(source)
        needed = {name for name in lock.inputs if not name.startswith("--inputs ")}
        digests = {name: digest_of(path) for name, path in here.items() if name in needed or _counts(name)}
        digests |= {name: digest_of(path) for name, path in bindings.files().items()}
        yield from _compared("source: ", lock.inputs, digests, short=True)


def files_of(source: Source) -> dict[str, Path]:
    """The files beside or in a source by the names a lock may have for them: a link's target's name too."""
    if source.path.is_file():
        beside = {p.name: p for p in source.path.parent.iterdir() if p.is_file() and p.suffix != ".json"}
        return beside | {source.path.name: source.path}
    files = [p for p in source.path.iterdir() if p.is_file()]
    return {p.resolve().name: p for p in files if p.suffix != ".json"} | {p.name: p for p in files}


def _counts(name: str) -> bool:
    """Whether a file shapes the package even where the lock does not know it."""
    return name.endswith(".json")


def _by_name(found: list[LockedPack]) -> dict[str, str]:
    return {f"{pack.distribution} ({pack.group})": f"{pack.version} {pack.digest}" for pack in found}


def _compared(
    what: str, locked: Mapping[str, object], here: Mapping[str, object], *, short: bool = False
) -> Iterator[str]:
    for name in dict.fromkeys((*locked, *here)):
        old, new = locked.get(name), here.get(name)
        if old == new:
            continue
        if short or old is None or new is None:
            yield f"{what}{name}{_how(old, new)}"
        else:
            yield f"{what}{name}: {old} then, {new} here"


def _how(locked: object, here: object) -> str:
    if here is None:
        return " is missing"
    return " is not in the lock" if locked is None else " differs"
