"""Checks each edit before it is applied: what it takes away and what it puts there must agree as promised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.metrics import METRICS
from graphopt.pipeline import EditStatus, EditVerdict
from graphopt.verify._bridge import bridged
from graphopt.verify._calls import legal_calls
from graphopt.verify._cone import Derived
from graphopt.verify._cut import cut_out
from graphopt.verify._far import far_bindings
from graphopt.verify._guesses import Guesses, guessed_calls
from graphopt.verify._inputs import (
    Binding,
    Undecided,
    adapted,
    feeds_of,
    implied,
    legal_bindings,
    longer_bindings,
    most_steps,
    valid_part,
)
from graphopt.verify._kernels import ComparisonRequest, Reply, Run
from graphopt.verify._opset import changed_meaning
from graphopt.verify._reproducer import discard_reproducer
from graphopt.verify._sums import sums_of
from graphopt.verify._tiles import in_tiles
from graphopt.verify._values import Points
from graphopt.verify._varied import can_be_varied
from graphopt.verify._window import Window
from graphopt.verify._worker import KernelWorker

if TYPE_CHECKING:
    from graphopt.families import Assumption, InputDomain
    from graphopt.interface import Adapter, Interface
    from graphopt.pipeline import Contract, Edit

__all__ = ["EditVerifier"]


_SEED = 0  # of all values that are drawn: any one will do, and the same every time
_DEEPEST = 6
"""Layers of nodes that a window grows by before a difference is believed. A judgement: slices of one value
and halves of a rotation come from nearer, and each layer runs the window again."""
_MASK = 1e3
"""Constants from which a number may be a mask's, and half of it counts as masked. A judgement: exporters
write -1e4 and less, usual values are far below."""


@dataclass
class EditVerifier:
    """Checks edits of one model; use it in a `with` statement, which ends its process.

    `interface` is that of the model before any pass. `domain` says which inputs are legal; without one they
    are guessed, with the `arrays` and `sizes` that the user gave. `threads` are those of the kernels.
    """

    interface: Interface | None = None
    domain: InputDomain | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    worker: KernelWorker = field(default_factory=KernelWorker)
    threads: int = 1

    def __post_init__(self) -> None:
        self._known: dict[str, EditVerdict] = {}
        self._derived: Derived | None = None
        self._pass = 0
        self._bindings: list[Binding] | None = None
        if self.domain is not None and self.interface is not None:
            self._bindings = legal_bindings(self.domain, self.interface, _SEED)
        self._guesses = Guesses(self.arrays, self.sizes, self._sizes_given())
        self._long: dict[int, list[Binding]] = {}
        self._assumed: Sequence[Assumption] = ()
        self._longest = max((s for b in self._bindings or () for s in b.sizes.values()), default=0)

    @property
    def guesses(self) -> bool:
        """Whether nothing says which inputs are legal."""
        return self._bindings is None and not self.arrays

    def _sizes_given(self) -> dict[str, int]:
        """The sizes of named dimensions in the call that the arrays are of."""
        inputs = self.interface.inputs if self.interface is not None else ()
        return {
            dim: size
            for spec in inputs
            if spec.name in self.arrays
            for dim, size in zip(spec.dims, self.arrays[spec.name].shape, strict=False)
            if isinstance(dim, str)
        }

    def __enter__(self) -> EditVerifier:
        self.worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.close()
        self._derived = None

    def verdicts(self) -> dict[str, EditVerdict]:
        """What was found of the windows checked so far, by their keys."""
        return dict(self._known)

    def remember(self, verdicts: Mapping[str, EditVerdict]) -> None:
        """Take what another verifier of the same model found as found."""
        self._known.update(verdicts)

    def check(
        self,
        model: ir.Model,
        edit: Edit,
        contract: Contract,
        adapters: Sequence[Adapter] = (),
        *,
        assumptions: Sequence[Assumption] = (),
        reads_since: int = 0,
        save: Path | None = None,
    ) -> EditVerdict:
        """Whether `edit` keeps what `contract` promises; `model` is as it is before the edit.

        `adapters` are those of earlier edits. Only calls that meet the `assumptions` count. `reads_since`:
        when the edit's pass began to read weights (a time of `graphopt.ir.read_clock`). What it takes to see
        a failure again goes to the folder `save`, which is not there where nothing failed.
        """
        verdict = self._checked(model, edit, contract, adapters, assumptions, reads_since, save)
        if save is not None and verdict.status != "failed":  # a narrower window did
            discard_reproducer(save)
        return verdict

    def _checked(
        self,
        model: ir.Model,
        edit: Edit,
        contract: Contract,
        adapters: Sequence[Adapter],
        assumptions: Sequence[Assumption],
        reads_since: int,
        save: Path | None,
    ) -> EditVerdict:
        if self._derived is None or reads_since != self._pass:
            # What an earlier pass saw of a value may not hold any more, and a continued run never saw it.
            self._derived, self._pass = Derived(model), reads_since
            self._guesses = replace(self._guesses, sums={**sums_of(model.graph), **self._guesses.sums})
        self._assumed = [a for a in assumptions if not a.in_words_alone]
        if (changed := changed_meaning(model, edit)) is not None:
            return EditVerdict("unproven", "structure", changed)
        if edit.proof is not None or not edit.replace:
            return EditVerdict("proven", "structure")
        if edit.unproven:
            return EditVerdict("unproven", "not run", edit.unproven)
        with bridged(edit) as (edit, within):
            verdict = self._compared(model, edit, within, contract, adapters, reads_since, save)
        if within and verdict.status in ("proven", "within budget"):
            return replace(verdict, reason="for values within the range that the edit states")
        if edit.samples is not None and verdict.status in ("proven", "within budget"):
            return replace(verdict, reason="on what the model is calibrated on")
        return verdict

    def _compared(
        self,
        model: ir.Model,
        edit: Edit,
        within: Mapping[ir.Value, np.ndarray],
        contract: Contract,
        adapters: Sequence[Adapter],
        reads_since: int,
        save: Path | None,
    ) -> EditVerdict:
        assert self._derived is not None
        given = [*adapters, *([edit.adapter] if edit.adapter is not None else [])]
        failed: EditVerdict | None = None
        undecided = ""
        # Inputs of a window that depend on each other are free in it: a difference may be none further up.
        for depth in range(_DEEPEST + 1):
            try:
                window = cut_out(model, edit, self._derived, within, depth=depth, reads_since=reads_since)
            except ValueError as error:
                if failed is None:
                    return EditVerdict("unproven", "numeric", str(error))
                undecided = str(error)
                continue
            key = f"{window.key} {contract} {given} {self._assumed}"
            if key in self._known and not failed:
                return replace(self._known[key], how="deduplicated")
            verdict = self._of_tiles(window, contract, given, None if depth else save)
            if verdict.status in ("proven", "within budget"):
                if failed is not None and failed.particular:
                    reason = f"differs only at its own constants, which inputs may never be: {failed.reason}"
                    return EditVerdict("unproven", "numeric", reason)
                self._known[key] = verdict
                return verdict
            if verdict.status == "unproven":
                if failed is None:
                    return verdict
                undecided = verdict.reason
                continue
            failed, undecided = failed or verdict, ""
            if verdict.particular and all(leaf.anything for leaf in window.leaves):
                break
            if window.closed or window.samples is not None:
                break
        assert failed is not None
        if undecided:
            return EditVerdict(
                "unproven", "numeric", f"differs on made-up inputs ({failed.reason}), and {undecided}"
            )
        return failed

    def _of_tiles(
        self,
        window: Window,
        contract: Contract,
        adapters: Sequence[Adapter],
        save: Path | None,
    ) -> EditVerdict:
        """The worst verdict of the window's tiles."""
        found = []
        for tile in in_tiles(window):
            found.append(self._decided(tile, contract, adapters, save))
            if found[-1].status in ("failed", "unproven"):
                return found[-1]
        larger = contract.metric is not None and METRICS[contract.metric].better == "larger"
        return (min if larger else max)(found, key=lambda verdict: verdict.value)

    def _decided(
        self, window: Window, contract: Contract, adapters: Sequence[Adapter], save: Path | None
    ) -> EditVerdict:
        try:
            runs, missing = self._runs(window, contract, adapters)
        except Undecided as reason:
            return EditVerdict("unproven", "numeric", str(reason))
        exprs = (w.expr for piece in (window.before, window.after) for w in piece.weights.values())
        reply = self.worker.ask(
            ComparisonRequest(
                window.before,
                window.after,
                runs,
                contract,
                window.longest,
                self.threads,
                save,
                free=not window.by_content and all(map(can_be_varied, exprs)),
            )
        )
        if missing and reply.status == "same":
            return EditVerdict("unproven", "numeric", missing)
        status = _status(reply, contract)
        return EditVerdict(status, "numeric", reply.reason, reply.value, reply.bound, reply.particular)

    def _runs(self, window: Window, contract: Contract, adapters: Sequence[Adapter]) -> tuple[list[Run], str]:
        """The runs of a window, and which others would be needed but are too large."""
        if window.samples is not None:
            return [Run("calibration data", window.samples, [None] * len(window.outputs))], ""
        runs, lossy, points = [], contract.kind == "lossy", Points.of(window)
        undecided: Undecided | None = None
        missing = ""
        masked = min((abs(n) / 2 for n in window.numbers if abs(n) >= _MASK), default=math.inf)
        legal = self._legal()
        if legal == []:
            raise Undecided("no legal call meets what it assumes")
        if legal is None:
            calls, missing = guessed_calls(window, points, self._guesses, lossy=lossy)
            calls = [c for c in calls if all(a.allows_sizes(implied(c.binding.sizes)) for a in self._assumed)]
        else:
            longer = [] if lossy else self._longer(1 + max((n for _, n in window.lengths), default=0))
            longer = longer if lossy else [*longer, *self._far(window)]
            calls = legal_calls(window, points, legal, longer, lossy=lossy)
        for index, call in enumerate(calls):
            try:
                made = adapted(window.given, call, adapters, points, _SEED + index)
                feeds = feeds_of(window.leaves, call, adapters, points, _SEED + index, made)
            except Undecided as reason:
                undecided = reason
                continue
            valid = [valid_part(dims, call.binding) for dims in window.outputs]
            steps = most_steps(window.loops, call.binding)
            magnitude = math.inf if call.variant in ("large", "huge", "wide") else masked
            finite = call.variant != "not finite"
            runs.append(Run(call.name, feeds, valid, finite, steps, call.is_particular, magnitude))
        if not runs and undecided is not None:
            raise undecided
        return runs, missing

    def _longer(self, length: int) -> list[Binding]:
        """Legal calls of `length` positions, if those that are run anyway have fewer."""
        assert self._bindings is not None
        if self.domain is None or self.interface is None or length <= self._longest:
            return []
        if length not in self._long:
            self._long[length] = longer_bindings(self.domain, self.interface, length, _SEED)
        return self._meeting(self._long[length])

    def _far(self, window: Window) -> list[Binding]:
        """Legal calls at the last positions, and at all of them where it brings a table of them."""
        if self.domain is None or self.interface is None:
            return []
        return self._meeting([*far_bindings(self.domain, self.interface, window, _SEED)])

    def _legal(self) -> list[Binding] | None:
        """The legal calls that meet what is assumed; None where nothing says which are legal."""
        return None if self._bindings is None else self._meeting(self._bindings)

    def _meeting(self, bindings: Sequence[Binding]) -> list[Binding]:
        return [b for b in bindings if b.case is not None and all(a.allows(b.case) for a in self._assumed)]


def _status(reply: Reply, contract: Contract) -> EditStatus:
    if reply.status == "undecided":
        return "unproven"
    if reply.status == "differs":
        return "failed"
    return "within budget" if contract.kind == "lossy" else "proven"
