"""The model behind a session as a function."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from graphopt.errors import CheckFailed, GraphoptError
from graphopt.interface import Arrays, Model
from graphopt.runtime._worker import RuntimeRefused

__all__ = ["SECONDS", "runtime_errors_as", "session_model"]


SECONDS = 600.0
"""How long one call of a model may take."""


@contextlib.contextmanager
def runtime_errors_as(kind: type[GraphoptError], message: str) -> Iterator[None]:
    """Raise `kind` with `message` and the runtime's own where it cannot load or run a graph."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    errors = (
        state.Fail,
        state.InvalidGraph,
        state.InvalidArgument,
        state.NotImplemented,
        state.RuntimeException,
        RuntimeRefused,
    )
    try:
        yield
    except errors as error:
        raise kind(f"{message}: {error}") from error


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
