"""The closing check where no family knows the model: the package beside the .onnx file it was made from."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from graphopt.errors import BadInput, GraphoptError
from graphopt.evaluate._bindings import DRAWS, Bindings, Undecided
from graphopt.evaluate._closing import ClosingCheck, closing_check
from graphopt.evaluate._low_precision import LowPrecisionSource
from graphopt.export import Source
from graphopt.families import Case
from graphopt.interface import Adapter, Arrays, Interface, Model
from graphopt.recipes import Budget
from graphopt.runtime import plain_session, session_model
from graphopt.targets import Target

__all__ = ["check_against_source_graph"]

_SOURCE_GRAPH = "the source graph"
_REFERENCE_BYTES = 1 << 26
"""64 MiB of a file: onnx's reference implementation is in Python, and takes minutes for larger models."""
PATIENCE = 60.0
"""Seconds after which no other values are tried on a source that refuses some: a large model runs once."""


def check_against_source_graph(
    source: Source,
    interface: Interface,
    target: Target,
    package: Model,
    file: Path,
    adapters: Sequence[Adapter],
    budget: Budget,
    bindings: Bindings,
) -> ClosingCheck:
    """Compare `package`, `file` on `target`, with the graph it was made from, on what `bindings` allow.

    `adapters` are those before `package`. Other values are tried where the source refuses made-up ones, and
    onnx's reference implementation where onnxruntime refuses the source. Raises `BadInput` where neither
    runs it.
    """
    try:
        cases = list(bindings.cases(interface))
    except Undecided as reason:
        hint = "say what legal inputs are with --inputs and --dim"
        return ClosingCheck("inconclusive", reason=f"{reason}; {hint}")
    low = LowPrecisionSource.of(source.path, source.name)
    reference = session_model(plain_session(source.path), source.name, BadInput)

    def compared(cases: Iterable[Case]) -> ClosingCheck:
        if low is not None:
            return low.check(target, package, file, adapters, budget, list(cases))
        return closing_check(
            reference, package, cases=cases, budget=budget, distribution=False, against=_SOURCE_GRAPH
        )

    started = time.monotonic()
    try:
        return compared(cases)
    except BadInput:
        for draw in DRAWS if bindings.guesses(interface) else ():
            if time.monotonic() - started < PATIENCE:
                with contextlib.suppress(BadInput):
                    found = compared(bindings.cases(interface, draw))
                    if found.verdict != "inconclusive":
                        return found
        with contextlib.suppress(GraphoptError):
            found = closing_check(
                _by_onnx(source),
                package,
                cases=cases,
                budget=budget,
                distribution=False,
                against=f"{_SOURCE_GRAPH}, in onnx's reference implementation",
            )
            if found.verdict == "passed":
                return found
        raise


def _by_onnx(source: Source) -> Model:
    """The graph as it is, where onnxruntime refuses what the standard allows. `BadInput` if it is large."""
    from onnx.reference import ReferenceEvaluator

    if source.path.stat().st_size > _REFERENCE_BYTES:
        raise BadInput(f"{source.path} is too large for onnx's reference implementation")
    try:
        evaluator = ReferenceEvaluator(str(source.path))
    except Exception as error:
        raise BadInput(f"onnx's reference implementation cannot load {source.path}: {error}") from error

    def model(feeds: Arrays) -> dict[str, np.ndarray]:
        try:
            results = evaluator.run(None, dict(feeds))
        except Exception as error:
            raise BadInput(f"onnx's reference implementation cannot run {source.path}: {error}") from error
        return dict(zip(evaluator.output_names, map(np.asarray, results), strict=True))

    return model
