"""What one run takes from the cache, and what it leaves there."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graphopt.cache._entry import Damaged, Header
from graphopt.cache._keys import StepKeys, export_key, model_key, part_key, plan_key, step_keys
from graphopt.cache._plain import CannotStore
from graphopt.cache._results import StepResults
from graphopt.cache._settings import cache_size
from graphopt.cache._states import (
    Passed,
    Place,
    new_header,
    read_exported,
    read_passed,
    write_exported,
    write_passed,
)
from graphopt.cache._store import Store
from graphopt.errors import BadInput
from graphopt.io import cache_folder

if TYPE_CHECKING:
    from graphopt.export import Exported, Source
    from graphopt.pipeline import Context, EditVerdict, Pass, RunResult
    from graphopt.targets import Target

__all__ = ["RunCache", "StepCache"]

SECONDS = 2.0
"""A step's result is stored if making it again would take longer than this, with the fast steps before it.
A judgement: what takes less is made again about as soon as it is read."""
_NOWHERE = Path("nowhere")
_PLAN = "plan.json"

T = TypeVar("T")


class RunCache:
    """The cache as a run of `source` sees it. What cannot be read or written is a warning, and not there."""

    def __init__(self, store: Store, source: Source, key: str, shaping: Mapping[str, Any]) -> None:
        self.source, self.key, self.shaping = source, key, shaping
        self._store = store
        self._warned = False

    @classmethod
    def open(cls, source: Source, task: str, shaping: Mapping[str, Any]) -> RunCache | None:
        """The cache that the environment names; None where it is switched off or the run has no key.

        `shaping` is what tells runs apart after the export.
        """
        size = cache_size()
        if not size:
            return None
        try:
            key = export_key(source, task)
        except OSError:  # the export says better what is wrong
            return None
        return None if key is None else cls(Store(cache_folder(), size), source, key, shaping)

    def exported(self) -> list[Exported] | None:
        """The source as it was exported before, if it was: every graph of it."""
        first = self._part(self.key)
        if first is None:
            return None
        part, others = first
        parts = [part, *(p for p, _ in filter(None, (self._part(part_key(self.key, r)) for r in others)))]
        return parts if len(parts) == 1 + len(others) else None

    def keep_exported(self, exported: Sequence[Exported]) -> None:
        """Store it, the first graph in the last place: the entry that says which others there are."""
        others = [part.role for part in exported[1:]]
        keys = [self.key, *(part_key(self.key, role) for role in others)]
        for key, part in reversed(list(zip(keys, exported, strict=True))):
            self.write(key, "export", functools.partial(_write_part, part, others))

    def _part(self, key: str) -> tuple[Exported, list[str]] | None:
        return self.read(key, lambda h, f: read_exported(h, Place(f, _NOWHERE), self.source))

    def plan(self) -> dict[str, Any] | None:
        """What `keep_plan` kept of the source last, whatever it was planned for."""

        def read(header: Header, folder: Path) -> dict[str, Any]:
            found: dict[str, Any] = json.loads(header.contents(folder)[_PLAN])
            return found

        return self.read(plan_key(self.key), read)

    def keep_plan(self, plan: Mapping[str, Any]) -> None:
        """Store what is known of damages of the source's weights, as JSON-able data, in place of an earlier
        one."""

        def fill(header: Header, folder: Path) -> None:
            data = json.dumps(plan, sort_keys=True).encode()
            (folder / _PLAN).write_bytes(data)
            header.files[_PLAN] = hashlib.sha256(data).hexdigest()
            header.write(folder)

        self._store.drop(plan_key(self.key))
        self.write(plan_key(self.key), "plan", fill)

    def steps(
        self,
        exported: Exported,
        steps: Sequence[tuple[str, Pass]],
        target: Target,
        checks: Mapping[str, Any],
        spill: Path,
    ) -> StepCache:
        """States of the `exported` graph after each of `steps`; scratch files lie in `spill`."""
        base = model_key(self.key, exported.model, exported.role)
        keys = step_keys(base, steps, target, {"checks": checks, "run": self.shaping})
        return StepCache(self, [name for name, _ in steps], keys, spill)

    def passed(self, key: str, spill: Path) -> Passed | None:
        """The state of that key."""
        return self.read(key, lambda header, folder: read_passed(header, Place(folder, spill)))

    def write(self, key: str, step: str, fill: Callable[[Header, Path], None]) -> Path | None:
        """Store what `fill` writes, and return where; None where that did not work."""
        header = new_header(key, self.source.name, step)
        try:
            self._store.put(key, lambda folder: fill(header, folder))
        except CannotStore:
            return None
        except OSError as error:
            self._warn(f"cannot be written: {error}")
            return None
        return self._store.folder / key

    def read(self, key: str, read: Callable[[Header, Path], T]) -> T | None:
        """What `read` makes of the entry of that key, if there is a whole one."""
        try:
            entry = self._store.find(key)
            return None if entry is None else read(entry[1], entry[0])
        except Damaged:
            self._store.drop(key)
        except (OSError, BadInput) as error:
            self._warn(f"cannot be read: {error}")
        return None

    def _warn(self, text: str) -> None:
        if not self._warned:
            print(f"warning: the cache at {self._store.folder} {text}", file=sys.stderr)
        self._warned = True


def _write_part(exported: Exported, others: Sequence[str], header: Header, folder: Path) -> None:
    write_exported(header, Place(folder, _NOWHERE), exported, others)


@dataclass
class StepCache:
    """States of one run after steps, as far as they have `keys`."""

    run: RunCache
    names: Sequence[str]
    keys: Sequence[StepKeys]
    spill: Path
    copies: dict[Path, tuple[Path, int]] = field(default_factory=dict)
    stored: float = field(default_factory=time.monotonic)

    def latest(self) -> Passed | None:
        """The state after as many steps as possible."""
        for key in reversed(self.keys):
            state = self.run.passed(key.after, self.spill)
            if state is not None:
                return state
        return None

    def results(self, index: int) -> StepResults | None:
        """Where the pass of step `index` keeps results; None where its step has no key."""
        if index >= len(self.keys):
            return None
        return StepResults(self.run, self.names[index], self.keys[index])

    def keep(
        self, index: int, context: Context, result: RunResult, verdicts: Mapping[str, EditVerdict]
    ) -> None:
        """Store the state after step `index`, if that is worth it.

        It is not where an edit was rolled back: the files that show why are not part of the state.
        """
        last = index == len(self.keys) - 1
        if index >= len(self.keys) or not (last or time.monotonic() - self.stored > SECONDS):
            return
        if any(edit.outcome == "rolled back" for record in result.records for edit in record.edits):
            return

        fresh: dict[Path, tuple[Path, int]] = {}

        def fill(header: Header, folder: Path) -> None:
            known = dict(self.copies)
            write_passed(header, Place(folder, self.spill), context, result, verdicts, known)
            fresh.update({path: copy for path, copy in known.items() if copy != self.copies.get(path)})

        place = self.run.write(self.keys[index].after, self.names[index], fill)
        if place is not None:
            self.copies |= {path: (place / new.name, size) for path, (new, size) in fresh.items()}
        self.stored = time.monotonic()
