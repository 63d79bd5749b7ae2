"""One case in one form, optimized: compared with itself before, and with what the suite expects."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime as ort

import graphopt
from graphopt.errors import GraphoptError
from graphopt.export import Source, export
from graphopt.pipeline import Context
from graphopt.plugins import load_recipe, run_recipe
from graphopt.plugins.registry import resolve, targets
from graphopt.recipes import OptimizeOptions, Recipe
from tests.corpus._cases import Case, read
from tests.corpus._variations import VARIATIONS, Unsuited

Result = dict[str, str]
Calls = Sequence[dict[str, Any]]
Optimize = Callable[[Path, Calls], list[list[Any]]]
RTOL, ATOL = 1e-3, 1e-5
OUTCOMES = {0: "crashed", 1: "stopped", 2: "refused", 5: "crashed"}


class NoResult(Exception):
    """Why there is nothing to compare; `outcome` is what that is called."""

    outcome: ClassVar[str]


class Invalid(NoResult):
    """What was made is no model that the runtime loads and runs."""

    outcome = "invalid"


class Refused(NoResult):
    """What an optimizer raised."""

    outcome = "refused"


class Died(NoResult):
    """How the process of an optimizer ended."""

    outcome = "crashed"


def check(case: Case, variation: str, stage: Callable[[str], None]) -> Result:
    """What became of a variation of `case` whose edits are not run: see `compare`."""
    try:
        model, calls = VARIATIONS[variation](case)
    except Unsuited as reason:
        return {"outcome": "unsuited", "reason": str(reason)}
    return compare(case, model, calls, _optimized, stage)


def check_whole(name: str, optimized: Optimize, stage: Callable[[str], None]) -> Result:
    """What an optimizer makes of the case `name` at its own opset, or at a later one if it runs only there.

    See `compare`.
    """
    case = read(name, converted=False)
    found = compare(case, case.model, [case.feeds], optimized, stage)
    younger = read(name)
    if found["outcome"] != "runtime: cannot run" or not younger.note:
        return found
    return compare(younger, younger.model, [younger.feeds], optimized, stage)


def compare(
    case: Case, model: onnx.ModelProto, calls: Calls, optimized: Optimize, stage: Callable[[str], None]
) -> Result:
    """An `outcome` and its `reason`. `optimized` reads a file, writes beside it and gives the calls' results.

    `stage` is told what is about to run.

    equal | unsuited | runtime: cannot run | runtime: differs | random | refused (exit code 2) |
    stopped (1: a check said no) | invalid | differs | crashed
    """
    stage("the original")
    try:
        before = [_run(_session(model.SerializeToString()), feeds) for feeds in calls]
        again = [_run(_session(model.SerializeToString()), feeds) for feeds in calls]
    except Exception as error:
        return {"outcome": "runtime: cannot run", "reason": _said(error)}
    if _difference(before, again, 0, 0):
        return {"outcome": "random", "reason": "two runs of the original differ"}
    expected = case.expected * (len(before[0]) // max(len(case.expected), 1))
    by_itself = _difference([expected] * len(calls), before, case.rtol, case.atol)
    stage("optimizing")
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        try:
            after = optimized(path, calls)
        except (GraphoptError, NoResult) as error:
            if said := _unloadable(path):
                return {"outcome": "runtime: cannot run", "reason": said}
            if isinstance(error, GraphoptError):
                return {"outcome": OUTCOMES.get(error.exit_code, "crashed"), "reason": _said(error)}
            return {"outcome": error.outcome, "reason": str(error)}
        except Exception as error:
            trace = traceback.format_exception(error)[-2]
            return {"outcome": "crashed", "reason": f"{_said(error)} | {' '.join(trace.split())}"}
    if found := _difference(before, after, RTOL, ATOL):
        return {"outcome": "differs", "reason": f"from the original: {found}"}
    if by_itself:
        return {"outcome": "runtime: differs", "reason": by_itself}
    if found := _difference([expected] * len(calls), after, case.rtol, max(case.atol, 1e-6)):
        return {"outcome": "differs", "reason": f"from what is expected: {found}"}
    return {"outcome": "equal", "reason": ""}


_RECIPE: list[Recipe] = []


def _optimized(path: Path, calls: Calls) -> list[list[Any]]:
    target = resolve("target", "cpu", targets())()
    if not _RECIPE:
        recipe = load_recipe("lossless")
        _RECIPE.append(recipe.expanded(target.lowering(recipe)))
    exported = export(Source(path.name, path, "onnx"))
    context = Context(exported.model, target=target)
    run_recipe(exported.model, _RECIPE[0], context, OptimizeOptions(verify="structure"))
    target.compile(exported.model, path.with_name("after.onnx"))
    session = target.session(path.with_name("after.onnx"), threads=1)
    return [_run(session, feeds) for feeds in calls]


def by_default(path: Path, calls: Calls) -> list[list[Any]]:
    """What the package gives that `graphopt optimize` makes without options."""
    package = graphopt.optimize(path, path.with_name("package"), cache=False)
    return loaded(package.path / package.manifest.graphs["model"].file, calls)


def loaded(path: Path, calls: Calls) -> list[list[Any]]:
    """What a made model gives, as the runtime runs models by default; `Invalid` where it does not."""
    try:
        onnx.checker.check_model(path)
        session = resolve("target", "cpu", targets())().session(path, threads=1)
        return [_run(session, feeds) for feeds in calls]
    except Exception as error:
        raise Invalid(_said(error)) from error


def _unloadable(original: Path) -> str:
    """Why the runtime cannot load the original with its own optimizations, as it loads packages."""
    try:
        resolve("target", "cpu", targets())().session(original, threads=1)
    except Exception as error:
        return _said(error)
    return ""


def _session(content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, feeds: dict[str, Any]) -> list[Any]:
    wanted = {value.name for value in session.get_inputs()}
    return list(session.run(None, {name: value for name, value in feeds.items() if name in wanted}))


def _difference(
    expected: Sequence[Sequence[Any]], got: Sequence[Sequence[Any]], rtol: float, atol: float
) -> str:
    """What differs first, or nothing; floats within the tolerances, all else exactly."""
    for one, other in zip(expected, got, strict=True):
        if len(one) != len(other):
            return f"{len(other)} outputs instead of {len(one)}"
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            if said := _apart(a, b, rtol, atol):
                return f"output {index}: {said}"
    return ""


def _apart(a: Any, b: Any, rtol: float, atol: float) -> str:
    if isinstance(a, list | tuple):
        if not isinstance(b, list | tuple) or len(a) != len(b):
            return "another sequence"
        return next((s for x, y in zip(a, b, strict=True) if (s := _apart(x, y, rtol, atol))), "")
    if a is None or b is None:
        return "" if a is b else "one is nothing"
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return f"shape {b.shape} instead of {a.shape}"
    if a.dtype == object or a.dtype.kind in "US":
        return "" if np.array_equal(a.astype(str), b.astype(str)) else "other strings"
    if a.dtype != b.dtype and a.dtype.itemsize != b.dtype.itemsize:
        return f"{b.dtype} instead of {a.dtype}"
    if a.dtype != b.dtype:  # what numpy has no type for, the runtime gives as raw integers
        b = b.view(a.dtype)
    if a.dtype.kind in "iub":
        return "" if np.array_equal(a, b) else f"{int(np.count_nonzero(a != b))} other values"
    if a.dtype.name == "bfloat16":
        rtol = max(rtol, 2**-6)
    x, y = (v.astype(np.complex128 if v.dtype.kind == "c" else np.float64) for v in (a, b))
    if np.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    with np.errstate(invalid="ignore"):
        return f"off by {float(np.nanmax(np.abs(x - y))):.3g}"


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]
