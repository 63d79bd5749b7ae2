"""How sessions are set up, as data that a package can carry."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from graphopt.runtime._session import with_options
from graphopt.runtime._threads import default_threads

__all__ = ["SessionSettings", "provider_options", "session_choices"]

_OPTIONS: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("options of the provider", default=())

GraphLevel = Literal["basic", "extended", "layout", "all"]


class SessionSettings(BaseModel):
    """What a session is told beyond what it takes to run; None: what the target says by itself.

    `threads` compute a node together. `spinning`: threads without work wait for it without going to sleep.
    `arena`: memory of the processor is kept for the next call, `patterns`: its allocations are planned for
    each set of shapes. `prepacking`: weights are laid out for the kernels when the session opens. `level` is
    how far onnxruntime's own optimizations of the graph go. `options` are of the execution provider.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    threads: int | None = None
    spinning: bool | None = None
    arena: bool | None = None
    patterns: bool | None = None
    prepacking: bool | None = None
    level: GraphLevel | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """What is told, in words: "1 thread, no spinning"; "the target's own" where nothing is."""
        return ", ".join(_words(name, value) for name, value in self.told().items()) or "the target's own"

    def told(self) -> dict[str, Any]:
        """What is said, by field."""
        return self.model_dump(exclude_defaults=True)

    def joined(self, other: SessionSettings) -> SessionSettings:
        """Both; where they differ, `other`."""
        options = tuple((dict(self.options) | dict(other.options)).items())
        return self.model_copy(update=other.told() | {"options": options})

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Within, sessions that are opened are told all of it but `threads`, which these are asked for."""
        token = _OPTIONS.set((*_OPTIONS.get(), *self.options))
        try:
            with with_options(self.apply):
                yield
        finally:
            _OPTIONS.reset(token)

    def apply(self, options: Any) -> None:
        """Tell `options`, an `onnxruntime.SessionOptions`, what is not of threads or a provider."""
        for name, value in self.told().items():
            if name in _APPLIED:
                _APPLIED[name](options, value)


def provider_options(said: Mapping[str, str]) -> dict[str, str]:
    """Options of an execution provider as a target has them, and those of settings that are `in_force`."""
    return {**said, **dict(_OPTIONS.get())}


def session_choices(threads: int | None = None, allowed: int | None = None) -> dict[str, list[Any]]:
    """Values worth trying by field of `SessionSettings`.

    A session has `threads` threads by itself (default: as `default_threads`), and the process may run on
    `allowed` processors (default: as it may).
    """
    own = threads or default_threads()
    if allowed is None:
        affine = hasattr(os, "sched_getaffinity")
        allowed = len(os.sched_getaffinity(0)) if affine else os.cpu_count() or 1
    return {
        "threads": sorted({own // 4, own // 2, own - 1, allowed} - {0, own}),
        "spinning": [False],
        "arena": [False],
        "patterns": [True],
        "prepacking": [False],
        "level": ["extended", "basic"],
    }


def _words(name: str, value: Any) -> str:
    if name == "threads":
        return f"{value} thread" + ("s" if value != 1 else "")
    if name == "options":
        return ", ".join(f"{key}={chosen}" for key, chosen in value)
    return f"graph level {value}" if name == "level" else name if value else f"no {name}"


def _level(options: Any, value: GraphLevel) -> None:
    import onnxruntime as ort

    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{value.upper()}")


_APPLIED: dict[str, Callable[[Any, Any], None]] = {
    "spinning": lambda options, value: options.add_session_config_entry(
        "session.intra_op.allow_spinning", str(int(value))
    ),
    "arena": lambda options, value: setattr(options, "enable_cpu_mem_arena", value),
    "patterns": lambda options, value: setattr(options, "enable_mem_pattern", value),
    "prepacking": lambda options, value: options.add_session_config_entry(
        "session.disable_prepacking", str(int(not value))
    ),
    "level": _level,
}
