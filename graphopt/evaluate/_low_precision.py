"""The closing check of graphs that round to fewer bits themselves: quantized ones, and those of float16.

onnxruntime fuses QuantizeLinear and DequantizeLinear into kernels that round otherwise, and keeps float16 or
not as its optimizations have it. So a source is not one function, but as many as there are ways to run it.
The package is compared with it as both are deployed, and once more with the runtime's optimizations off on
both sides; it may be off by as much as the source is from itself.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.evaluate._closing import ClosingCheck, Noises, closing_check, own_noise
from graphopt.families import Case
from graphopt.interface import Adapter, Arrays, Model
from graphopt.ir import in_single, load_model, save_model
from graphopt.ir.operators import ROUNDING, STORED_ROUNDED
from graphopt.pipeline import Context
from graphopt.plugins import registry, run_recipe, through
from graphopt.recipes import Budget, Recipe, Step
from graphopt.runtime import open_session, plain_session, session_model
from graphopt.targets import Target

__all__ = ["LowPrecisionSource"]

DEPLOYED, PLAIN = "as deployed", "without the runtime's optimizations"
_REASONS = {
    (False, False): f"they differ {DEPLOYED} and {PLAIN}",
    (False, True): f"they differ {DEPLOYED}; {PLAIN} they agree",
    (True, False): f"they differ {PLAIN}; {DEPLOYED} they agree",
}
_Results = list[Mapping[str, Any]]


@dataclass(frozen=True)
class LowPrecisionSource:
    """A graph in a file that computes with fewer bits than float32 has.

    `is_half`: with floats of 16 bits; `is_quantized`: with integers, to which it `rounds` activations by
    itself or, where only its weights are stored so, as the runtime sees fit.
    """

    path: Path
    name: str
    is_half: bool
    is_quantized: bool
    rounds: bool

    @classmethod
    def of(cls, path: Path, name: str) -> LowPrecisionSource | None:
        """The graph at `path`, if it is one."""
        model = load_model(path)
        nodes = list(model.graph.all_nodes())
        for function in model.functions.values():
            nodes += function.all_nodes()
        operators = {node.op_type for node in nodes}
        rounds = not operators.isdisjoint(ROUNDING) or any(o.startswith("QLinear") for o in operators)
        is_quantized = rounds or not operators.isdisjoint(STORED_ROUNDED)
        is_half = in_single(model)
        return cls(path, name, is_half, is_quantized, rounds) if is_half or is_quantized else None

    def check(
        self,
        target: Target,
        package: Model,
        file: Path,
        adapters: Sequence[Adapter],
        budget: Budget,
        cases: Sequence[Case],
    ) -> ClosingCheck:
        """Compare `package`, as `target` runs it, and the same graph in its `file` behind `adapters`.

        Raises `BadInput` where the source does not run on the cases.
        """
        reference, name, noise = self._reference(target, cases, file.parent)
        largest = max((one.largest for one in noise.values()), default=0.0)
        packages = {
            DEPLOYED: package,
            PLAIN: through(adapters, session_model(plain_session(file), "the package")),
        }
        checks = []
        for way, run in packages.items():
            check = closing_check(
                _replayed(reference[way], cases),
                run,
                cases=cases,
                budget=budget,
                distribution=False,
                against=f"{name} (which differs from itself by {largest:.2g} std)",
                noise=noise if way == DEPLOYED or self.rounds or self.is_half else None,
            )
            metrics = tuple(replace(one, case=f"{one.case}, {way}") for one in check.metrics)
            checks.append(replace(check, metrics=metrics))
        both = checks[0].and_then(checks[1])
        if both.verdict != "failed":
            return both
        return replace(both, reason=_REASONS[checks[0].verdict == "passed", checks[1].verdict == "passed"])

    def _reference(
        self, target: Target, cases: Sequence[Case], beside: Path
    ) -> tuple[dict[str, _Results], str, Noises]:
        """What to compare with by the way it is run, its name, and how far off it the source is."""
        with self._as_meant(target, beside) as path:
            deployed = _results(lambda: target.session(path), self.name, cases)
        source = {DEPLOYED: deployed, PLAIN: _results(lambda: plain_session(self.path), self.name, cases)}
        reference, name = source, "the source graph"
        pairs = [(source[PLAIN], source[DEPLOYED])]
        if self.is_half:
            single = self._in_single(cases, beside)
            if single is not None and all(_same_finite(single[way], source[way]) for way in source):
                reference, name = single, "the source graph, in single precision"
                pairs = [*(pairs if self.is_quantized else []), *((single[w], source[w]) for w in source)]
        noise = own_noise([(_replayed(a, cases), _replayed(b, cases)) for a, b in pairs], cases)
        return reference, name, noise

    @contextlib.contextmanager
    def _as_meant(self, target: Target, beside: Path) -> Iterator[Path]:
        """The source in a form that the runtime's optimizer does not take for another."""
        model = load_model(self.path)
        steps = tuple(Step(name) for name, cls in registry.passes().items() if cls.shields)
        made = (
            run_recipe(model, Recipe("meant", "", Budget(), steps), Context(model)) if self.rounds else None
        )
        if made is None or not any(record.edits for record in made.records):
            yield self.path
            return
        with tempfile.TemporaryDirectory(dir=beside) as folder:
            save_model(model, Path(folder) / "meant.onnx")
            yield Path(folder) / "meant.onnx"

    def _in_single(self, cases: Sequence[Case], beside: Path) -> dict[str, _Results] | None:
        """What the source would give were nothing in it rounded to 16 bits; None where that cannot be run."""
        model = load_model(self.path)
        in_single(model)
        wide = [replace(case, feeds={k: _wide(v) for k, v in case.feeds.items()}) for case in cases]
        with tempfile.TemporaryDirectory(dir=beside) as folder, contextlib.suppress(BadInput):
            path = Path(folder) / "single.onnx"
            save_model(model, path)
            return {
                DEPLOYED: _results(lambda: open_session(path), "it", wide),
                PLAIN: _results(lambda: plain_session(path), "it", wide),
            }
        return None


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _results(opened: Callable[[], Any], name: str, cases: Sequence[Case]) -> _Results:
    """What a session gives on each case; it is closed then, so that few models are held at once."""
    model = session_model(opened(), name, BadInput)
    return [model(case.feeds) for case in cases]


def _replayed(results: _Results, cases: Sequence[Case]) -> Model:
    """The model that gave `results`, for the feeds of these very cases."""
    known = {id(case.feeds): result for case, result in zip(cases, results, strict=True)}

    def run(feeds: Arrays) -> Mapping[str, Any]:
        return known[id(feeds)]

    return run


def _same_finite(one: _Results, other: _Results) -> bool:
    """Whether the same entries are finite: float16 ends at 65504, where single precision goes on."""
    return all(np.array_equal(np.isfinite(a), np.isfinite(b)) for a, b in _floats(one, other))


def _floats(one: _Results, other: _Results) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for a, b in zip(one, other, strict=True):
        for name, value in a.items():
            if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
                yield value, b[name]
