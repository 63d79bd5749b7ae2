"""From a recipe that damages a model to the edit that does it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graphopt.bisect._search import Verdict, first_bad, minimal
from graphopt.bisect._trial import Choice, Except, Only, Trial, Trier
from graphopt.build import chosen_target, configured, default_recipe
from graphopt.cache import export_key
from graphopt.errors import BadInput, CheckFailed
from graphopt.evaluate import Bindings
from graphopt.export import export, resolve_source
from graphopt.io import digest_of, read_json
from graphopt.package import packs, versions
from graphopt.pipeline import Contract, EditRecord
from graphopt.recipes import OptimizeOptions
from graphopt.runtime import default_threads
from graphopt.verify import EditVerifier

__all__ = ["Bisection", "Culprit", "bisect"]

STATE = "bisect.json"


@dataclass(frozen=True)
class Culprit:
    """An edit: the step of the recipe it belongs to, its stable identity, what it does."""

    step: str
    identity: str
    summary: str


@dataclass(frozen=True)
class Bisection:
    """What was found. `culprit` is None where the whole recipe is good.

    `together` are earlier edits without which the culprit does no harm; `candidates` are edits that could not
    be told from it, because every trial between them was skipped. `promise`: the package passes for good, but
    the culprit does not keep what its pass promises. `reproducer` is a folder with the models before and
    after, inputs and a script, if a difference shows in a piece of the graph. `trials` counts packages
    that were made and judged, `known` those that an earlier, interrupted run had.
    """

    culprit: Culprit | None
    together: tuple[Culprit, ...] = ()
    candidates: tuple[Culprit, ...] = ()
    reproducer: Path | None = None
    trials: int = 0
    known: int = 0
    promise: bool = False


def bisect(
    source: str | Path,
    *,
    out: str | Path,
    check: str | None = None,
    options: OptimizeOptions | None = None,
    progress: Callable[[str], None] | None = None,
    **changes: Any,
) -> Bisection:
    """Find the edit that makes the package of `source` bad.

    What is asked for is in `options`, and in `changes`: those fields of `OptimizeOptions` that say what to
    make (`target`, `recipe`, `task`, `inputs`, `dims`, `settings`, `trust_remote_code`).
    `check` is a shell command, run with the package's folder in GRAPHOPT_PACKAGE: exit code 0 is good, 125
    cannot be judged, 1 to 127 is bad. Without it a package is bad if it differs from its source by more than
    the recipe allows, or else if an edit does not keep what its pass promises. Work is kept in the folder
    `out`: an interrupted search goes on where it was. Raises `CheckFailed` where the package is bad without
    any edit, `BadInput` where it cannot be judged.
    """
    say = progress or (lambda text: None)
    options = replace(options or OptimizeOptions(), **changes)
    target, trusted = chosen_target(options.target), options.trust_remote_code
    resolved = resolve_source(source, trust_remote_code=trusted)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    say("exporting")
    exported = export(resolved, task=options.task, trust_remote_code=trusted, progress=say)
    name = options.recipe or default_recipe(exported, target)
    recipe = configured(name, options.settings, target, options.budget)
    bindings = Bindings.parse(options.inputs, options.dims)
    trier = Trier(resolved, exported, target, recipe, folder, check, bindings, options)
    data = options.inputs and digest_of(Path(options.inputs))
    asked = [
        export_key(resolved, options.task),
        repr(recipe),
        check,
        data,
        list(options.dims),
        versions(target.libraries),
        repr(packs()),
    ]
    return _Search(trier, _Memory.of(folder / STATE, asked), say).run()


@dataclass
class _Memory:
    """Verdicts of trials, written down as they come, with a seal that tells the search `key` and damage."""

    path: Path
    key: str
    verdicts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, asked: Sequence[Any]) -> _Memory:
        """What the file at `path` says of the same search; nothing where it is another's, or damaged."""
        key = _digest(asked)
        try:
            held = read_json(path)
        except (FileNotFoundError, BadInput):
            return cls(path, key)
        verdicts: dict[str, Any] = held.get("verdicts", {})
        return cls(path, key, verdicts if held.get("seal") == _digest([key, verdicts]) else {})

    def keep(self, name: str, trial: Trial) -> None:
        self.verdicts[name] = [trial.verdict, [[step, vars(record)] for step, record in trial.applied]]
        partial = self.path.with_suffix(".partial")
        seal = _digest([self.key, self.verdicts])
        partial.write_text(json.dumps({"seal": seal, "verdicts": self.verdicts}), encoding="utf-8")
        partial.replace(self.path)

    def get(self, name: str) -> Trial | None:
        if name not in self.verdicts:
            return None
        verdict, applied = self.verdicts[name]
        return Trial(verdict, tuple((step, EditRecord(**record)) for step, record in applied))


@dataclass
class _Search:
    trier: Trier
    memory: _Memory
    say: Callable[[str], None]
    trials: int = 0
    known: int = 0

    def run(self) -> Bisection:
        shutil.rmtree(self.trier.reproducers(), ignore_errors=True)  # it may be another search's
        whole = self.tried(Except())
        if whole.verdict == "skip":
            raise BadInput("the check cannot judge the whole recipe's package")
        if whole.verdict == "good":
            return self.broken_promise() or Bisection(None, trials=self.trials, known=self.known)
        nothing = self.tried(Only())
        if nothing.verdict != "good":
            raise CheckFailed(
                "the package is bad without any edit: no pass is to blame",
                hint="Look at the export, the target, the runtime, or the check itself.",
            )
        edits = whole.applied
        ends = self.ends_of_passes(edits)
        good, bad = first_bad(len(ends) - 1, lambda n: self.prefix(edits, ends[n]))
        low, high = ends[good], ends[bad]
        good, bad = first_bad(high - low, lambda n: self.prefix(edits, low + n) if n else "good")
        last, first = low + good, low + bad
        culprit = edits[first - 1]
        together = self.together(edits[:first])
        return Bisection(
            _culprit(culprit),
            tuple(map(_culprit, together)),
            tuple(_culprit(edit) for edit in edits[last : first - 1]),
            self.reproducer(edits[:first]),
            self.trials,
            self.known,
        )

    def broken_promise(self) -> Bisection | None:
        """The first edit that does not keep what its pass promises, though the package may pass for good."""
        if self.trier.check is not None:
            return None
        self.say("checking every edit")
        with self.verifier(EditVerifier) as verifier:
            failed = self.trier(Except(), verifier=verifier).failed
        self.trials += 1
        if not failed:
            return None
        folder = self.found(failed[0][1].identity)
        return Bisection(_culprit(failed[0]), (), (), folder, self.trials, self.known, promise=True)

    @staticmethod
    def ends_of_passes(edits: Sequence[tuple[str, EditRecord]]) -> list[int]:
        """How many edits there are before each step, and in all."""
        starts = [n for n, (step, _) in enumerate(edits) if n == 0 or edits[n - 1][0] != step]
        return [*starts, len(edits)]

    def prefix(self, edits: Sequence[tuple[str, EditRecord]], count: int) -> Verdict:
        return self.tried(Only(frozenset(record.identity for _, record in edits[:count]))).verdict

    def together(self, edits: Sequence[tuple[str, EditRecord]]) -> list[tuple[str, EditRecord]]:
        """Earlier edits that the last one needs to do harm, not those it needs to be possible."""
        *earlier, culprit = edits
        step = culprit[0]
        mine = sum(name == step for name, _ in edits)

        def without(gone: Sequence[tuple[str, EditRecord]]) -> Verdict:
            trial = self.tried(Except(frozenset(r.identity for _, r in gone), f"{step}:{mine}"))
            possible = sum(name == step for name, _ in trial.applied) == mine
            return trial.verdict if possible else "skip"

        needed: list[tuple[str, EditRecord]] = []
        for name in reversed(dict.fromkeys(name for name, _ in earlier if name != step)):
            theirs = [edit for edit in earlier if edit[0] == name]
            if without(theirs) == "good":
                needed += minimal(theirs, lambda gone: "bad" if gone and without(gone) == "good" else "good")
        return needed

    def reproducer(self, edits: Sequence[tuple[str, EditRecord]]) -> Path | None:
        self.say("cutting out the piece that shows it")
        identity = edits[-1][1].identity
        choice = Only(frozenset(record.identity for _, record in edits))
        for kind in (EditVerifier, _Strict):
            with self.verifier(kind) as verifier:
                self.trier(choice, verifier=verifier, verified={identity})
            if self.found(identity):
                return self.found(identity)
        return None

    def verifier(self, kind: type[EditVerifier]) -> EditVerifier:
        return kind(
            self.trier.exported.interface,
            self.trier.domain(),
            arrays=self.trier.bindings.arrays,
            sizes=self.trier.bindings.dims,
            threads=default_threads(),
        )

    def found(self, identity: str) -> Path | None:
        """The folder with what it takes to see the difference that an edit makes, if one was seen."""
        folder = self.trier.reproducers() / identity.replace(":", "-")
        return folder if folder.is_dir() else None

    def tried(self, choice: Choice) -> Trial:
        name = hashlib.sha256(repr(choice.key()).encode()).hexdigest()
        known = self.memory.get(name)
        if known is not None:
            self.known += 1
            return known
        self.say(f"trying {choice}")
        trial = self.trier(choice)
        self.trials += 1
        self.memory.keep(name, trial)
        return trial


class _Strict(EditVerifier):
    """Takes no contract's word: whatever is not bit-equal is a difference."""

    def check(self, model: Any, edit: Any, contract: Contract, *more: Any, **options: Any) -> Any:
        return super().check(model, edit, Contract.exact(), *more, **options)


def _digest(said: Any) -> str:
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _culprit(edit: tuple[str, EditRecord]) -> Culprit:
    step, record = edit
    return Culprit(step, record.identity, record.summary)
