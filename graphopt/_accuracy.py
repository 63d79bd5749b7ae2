"""Models as functions, and how far a language model is from its reference on text."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt._texts import Text, Tokenizer, context_length, sequences
from graphopt.errors import BadInput, CheckFailed, GraphoptError
from graphopt.evaluate import LanguageComparison, compare_language_models, reference_logits, session_logits
from graphopt.families import Interface, TensorSpec
from graphopt.pipeline import Adapter, adapt_feeds, adapt_results

__all__ = [
    "Arrays",
    "Logits",
    "Model",
    "as_logits",
    "measure_language",
    "plain_session",
    "runtime_errors_as",
    "session_model",
    "through",
]

SECONDS = 600.0
"""How long one call of a model may take."""

Arrays = Mapping[str, NDArray[Any]]
Model = Callable[[Arrays], Mapping[str, NDArray[Any]]]
Logits = Callable[[NDArray[np.int64]], NDArray[np.floating[Any]]]


@dataclass
class _Described:
    """An input as onnxruntime describes it."""

    name: str
    shape: list[int | str | None]
    type: str

    @classmethod
    def of(cls, spec: TensorSpec) -> _Described:
        kind = {"float32": "float", "float64": "double"}.get(spec.dtype, spec.dtype)
        return cls(spec.name, list(spec.dims), f"tensor({kind})")


@contextlib.contextmanager
def runtime_errors_as(kind: type[GraphoptError], message: str) -> Iterator[None]:
    """Raise `kind` with `message` and the runtime's own where onnxruntime cannot load or run a graph."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    errors = (
        state.Fail,
        state.InvalidGraph,
        state.InvalidArgument,
        state.NotImplemented,
        state.RuntimeException,
    )
    try:
        yield
    except errors as error:
        raise kind(f"{message}: {error}") from error


def plain_session(path: Path) -> Any:
    """The graph as it is, the runtime's own optimizations off. `BadInput` where it cannot be run."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    with runtime_errors_as(BadInput, f"onnxruntime cannot load {path}"):
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def session_model(
    session: Any,
    name: str,
    failure: type[GraphoptError] = CheckFailed,
    *,
    seconds: float | None = SECONDS,
) -> Model:
    """The model behind an `onnxruntime.InferenceSession`, from feeds by name to results by name.

    Raises `failure`, calling the model `name`, for feeds that it cannot run on, or not in `seconds`.
    """
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Arrays) -> dict[str, NDArray[Any]]:
        with (
            runtime_errors_as(failure, f"{name} cannot run on {_shapes(feeds)}"),
            _limited(seconds) as options,
        ):
            return dict(zip(names, session.run(None, dict(feeds), options), strict=True))

    return run


@contextlib.contextmanager
def _limited(seconds: float | None) -> Iterator[Any]:
    """`onnxruntime.RunOptions` of a run that ends, with an error, when `seconds` are over."""
    import onnxruntime as ort

    if seconds is None:
        yield None
        return
    options = ort.RunOptions()
    timer = threading.Timer(seconds, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def _shapes(feeds: Arrays) -> str:
    return ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in list(feeds.items())[:4])


def through(adapters: Iterable[Adapter], package: Model) -> Model:
    """`package` with the interface its source had."""
    chain = tuple(adapters)
    return lambda feeds: adapt_results(chain, package(adapt_feeds(chain, feeds)))


def as_logits(model: Model, interface: Interface) -> Logits:
    """A causal language model that takes the inputs of `interface`, from tokens int64[S] to logits[S, V]."""
    return reference_logits(model, [_Described.of(spec) for spec in interface.inputs])


def measure_language(
    session: Any, reference: Logits, folder: Path, text: Text, tokens: int
) -> LanguageComparison:
    """Compare the language model in `session`, whose files are in `folder`, with `reference` on `text`."""
    found = sequences(text, Tokenizer(folder), tokens=tokens, context=context_length(folder))
    return compare_language_models(session_logits(session), reference, found)
