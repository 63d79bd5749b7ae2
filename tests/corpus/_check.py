"""One case in one variation, optimized: compared with itself before, and with what the suite expects."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from graphopt.errors import GraphoptError
from graphopt.export import Source, export
from graphopt.pipeline import Context, Recipe, RunOptions, load_recipe, run_recipe
from graphopt.registry import resolve, targets
from tests.corpus._cases import Case
from tests.corpus._variations import VARIATIONS, Unsuited

Result = dict[str, str]
RTOL, ATOL = 1e-3, 1e-5


def check(case: Case, variation: str, stage: Callable[[str], None]) -> Result:
    """What became of `case`: an `outcome` and its `reason`. `stage` is told what is about to run.

    equal | unsuited | runtime: cannot run | runtime: differs | random | refused | differs | crashed
    """
    try:
        model, calls = VARIATIONS[variation](case)
    except Unsuited as reason:
        return {"outcome": "unsuited", "reason": str(reason)}
    stage("the original")
    try:
        before = [_run(_session(model.SerializeToString()), feeds) for feeds in calls]
        again = [_run(_session(model.SerializeToString()), feeds) for feeds in calls]
    except Exception as error:
        return {"outcome": "runtime: cannot run", "reason": _said(error)}
    if _difference(before, again, 0, 0):
        return {"outcome": "random", "reason": "two runs of the original differ"}
    expected = case.expected * (2 if variation == "twice" else 1)
    by_itself = _difference([expected] * len(calls), before, case.rtol, case.atol)
    stage("graphopt")
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        try:
            after = _optimized(model, Path(folder), calls)
        except GraphoptError as error:
            if said := _unloadable(Path(folder) / "model.onnx"):
                return {"outcome": "runtime: cannot run", "reason": said}
            kind = "refused" if error.exit_code == 2 else "crashed"
            return {"outcome": kind, "reason": _said(error)}
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


def _optimized(model: onnx.ModelProto, folder: Path, calls: Sequence[dict[str, Any]]) -> list[list[Any]]:
    onnx.save(model, folder / "model.onnx")
    target = resolve("target", "cpu", targets())()
    if not _RECIPE:
        recipe = load_recipe("lossless")
        _RECIPE.append(recipe.expanded(target.lowering(recipe)))
    exported = export(Source("model.onnx", folder / "model.onnx", "onnx"))
    context = Context(exported.model, target=target)
    run_recipe(exported.model, _RECIPE[0], context, RunOptions(verify="structure"))
    target.compile(exported.model, folder / "after.onnx")
    session = target.session(folder / "after.onnx", threads=1)
    return [_run(session, feeds) for feeds in calls]


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
