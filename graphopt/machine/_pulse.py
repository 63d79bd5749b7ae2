"""How fast a target's processors are at the moment."""

from __future__ import annotations

import contextlib
import functools
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.machine._graphs import Product, Weights, products
from graphopt.machine._turns import repeated, settled

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["Pulse"]

_FORMS = ((4, 128), (32, 0))
"""Bits and block of its weights: the first that the target loads."""
_K, _N, _COPIES, _ROWS = 256, 1024, 8, 8
_SECONDS = 0.008


class Pulse:
    """A small graph on a target: eight products in a row of eight rows and weights that stay in the caches.

    What others run on the cores of a virtual machine, and where its host has these run, changes by the
    second how fast they are. A model that fits into caches takes as much longer as this graph does.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._feeds = {"x": np.ones((_ROWS, _K), np.float32)}
        self._sessions: dict[int, Any] = {}
        self.samples: dict[int, list[float]] = {}
        self.reference: dict[int, float] = {}
        """What `usual` is about, by threads."""

    def sample(self, threads: int) -> float:
        """Seconds of a call at this moment, the median of some, kept in `samples`. `BadInput` where the
        target loads no product."""
        if threads not in self._sessions:
            self._sessions[threads] = self._session(threads)
        settled(threads)
        call = functools.partial(self._sessions[threads].run, ["sum"], self._feeds)
        found = statistics.median(repeated(call, _SECONDS))
        self.samples.setdefault(threads, []).append(found)
        return found

    def usual(self, seconds: Sequence[float], meanwhile: float, threads: int) -> list[float]:
        """What takes `seconds`, had a call taken its `reference` and not `meanwhile`."""
        return [one * self.faster(meanwhile, threads) for one in seconds]

    def faster(self, meanwhile: float, threads: int) -> float:
        """How many times as long the `reference` is as `meanwhile`."""
        return self.reference[threads] / meanwhile

    def _session(self, threads: int) -> Any:
        with tempfile.TemporaryDirectory(prefix="graphopt-pulse-") as folder:
            weights = Weights(Path(folder), 1 << 21)
            for bits, block in _FORMS:
                graph = products(weights, Product(bits, block, False, _K, _N), _COPIES)
                with contextlib.suppress(BadInput):
                    return self._target.session(graph.write(weights.folder / "pulse.onnx"), threads=threads)
        raise BadInput(f"target {self._target.name!r} loads no product: there is nothing to measure")
