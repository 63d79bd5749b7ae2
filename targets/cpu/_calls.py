"""How long a call of a small graph takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from graphopt.ir import to_proto

from .kernels import session_of

__all__ = ["call_seconds"]

_SECONDS = 0.02
"""Of calls after the first, whose least counts."""


def call_seconds(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> float:
    """Of this thread's time, which others do not lengthen: onnxruntime computes on it, where it has one."""
    session = session_of(to_proto(model), threads=1)
    session.run(None, dict(feeds))
    times = list[float]()
    while sum(times) < _SECONDS or len(times) < 3:
        started = time.thread_time()
        session.run(None, dict(feeds))
        times.append(time.thread_time() - started)
    return min(times)
