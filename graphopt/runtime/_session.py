"""Sessions that are set up for the machine they are opened on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.runtime._fallback import forbids_fallback, nodes_left, refusal
from graphopt.runtime._installation import check_installation
from graphopt.runtime._threads import default_threads

__all__ = [
    "CPU",
    "open_session",
    "plain_options",
    "plain_session",
    "session_of",
    "session_options",
    "with_options",
]

CPU = "CPUExecutionProvider"
"""onnxruntime's own provider, which every build of it has."""

Provider = str | tuple[str, dict[str, str]]
"""The name of an execution provider, perhaps with options."""


_CHANGES: ContextVar[tuple[Callable[[Any], object], ...]] = ContextVar("changes of options", default=())


@contextlib.contextmanager
def with_options(change: Callable[[Any], object]) -> Iterator[None]:
    """Within, `change` is called with the options of every session that is opened here, whoever opens it.

    For what is asked of onnxruntime about a session, such as its profile: how a package runs is the target's.
    """
    token = _CHANGES.set((*_CHANGES.get(), change))
    try:
        yield
    finally:
        _CHANGES.reset(token)


def session_options(*, threads: int | None = None) -> Any:
    """`onnxruntime.SessionOptions` with as many threads as the process may use, or `threads`."""
    check_installation()
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.inter_op_num_threads = 1
    # Kept for each set of shapes, of which decoding has a new one with every token.
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors, which are raised as well; warnings are of nodes that run
    return options


def plain_options(*, threads: int = 0) -> Any:
    """`onnxruntime.SessionOptions` for a graph as it stands: the runtime's own optimizations are off.

    `threads` 0 is as many as onnxruntime takes by itself.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # only what ends the process: errors are raised, and told by who asked
    return options


def open_session(
    path: str | Path,
    *,
    threads: int | None = None,
    providers: Sequence[Provider] = (CPU,),
    options: Any = None,
) -> Any:
    """An `onnxruntime.InferenceSession` of the graph in an .onnx file, on `providers`.

    `options`, which may be added to, default to `session_options`. `BadInput` with the runtime's reason where
    the file cannot be loaded; `EnvironmentProblem` where the installed onnxruntime lacks a provider.
    """
    return _opened(str(path), options or session_options(threads=threads), providers, str(path))


def plain_session(path: str | Path, *, threads: int = 0) -> Any:
    """The session of a graph as it stands: the runtime's own optimizations are off. `BadInput` as above."""
    return open_session(path, options=plain_options(threads=threads))


def session_of(
    model: bytes,
    *,
    name: str = "the model",
    threads: int | None = None,
    providers: Sequence[Provider] = (CPU,),
    options: Any = None,
) -> Any:
    """What `open_session` opens, from a serialized model in memory, which errors call `name`."""
    return _opened(model, options or session_options(threads=threads), providers, name)


def _opened(model: str | bytes, options: Any, providers: Sequence[Provider], name: str) -> Any:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    missing = [provider for provider in names if provider not in ort.get_available_providers()]
    if missing:
        raise EnvironmentProblem(
            f"the installed onnxruntime has no {missing[0]}",
            hint="Install the wheel that has it, and no other onnxruntime beside it.",
        )
    told(options)
    if forbids_fallback(options):  # onnxruntime then takes it for an error to name the CPU provider, too
        providers = [one for one, called in zip(providers, names, strict=True) if called != CPU] or providers
    errors = (
        *(state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile, state.NotImplemented),
        *(state.InvalidArgument, state.RuntimeException, state.EPFail, RuntimeError, ValueError),
    )
    # Else onnxruntime's Python opens a session on the CPU provider where another fails, now or when it runs.
    return opened_by(
        lambda: ort.InferenceSession(model, options, providers=list(providers), enable_fallback=False),
        options,
        names[0],
        name,
        errors,
        "onnxruntime",
    )


def told(options: Any) -> None:
    """Call whatever `with_options` has with `options`."""
    for change in _CHANGES.get():
        change(options)


def opened_by(
    make: Callable[[], Any],
    options: Any,
    provider: str,
    name: str,
    errors: tuple[type[Exception], ...],
    who: str,
) -> Any:
    """What `make` opens of the model `name` on `provider` with `options`.

    `errors` become `BadInput`, by which `who` cannot load it, or which names the nodes that `provider` leaves
    where the CPU provider may have none.
    """
    try:
        return make()
    except errors as error:
        left: Sequence[str] = ()
        if forbids_fallback(options):
            with contextlib.suppress(*errors):
                left = nodes_left(make, options, provider)
        if left:
            raise refusal(name, provider, left) from error
        raise BadInput(f"{who} cannot load {name}: {error}") from error
