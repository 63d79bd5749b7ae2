"""Decoding token by token in a process of another runtime, which keeps the cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.runtime._decode import LOGITS, Decoder
from graphopt.runtime._foreign import ForeignSession

__all__ = ["ForeignDecoder"]

_POSITIONS = 2
"""The axis of a cache along which it grows."""


class ForeignDecoder(Decoder):
    """A `Decoder` of a `ForeignSession`: tokens go there and logits come back. The cache grows there.

    A package whose cache is one buffer that past and present share is none for it.
    """

    _session: ForeignSession

    def _begin(self) -> None:
        assert self.capacity is None
        self._cache = {spec.name: self._empty(spec) for spec in self._past}
        self._kept = False

    def _cut(self, length: int) -> None:
        self._session.worker.ask("cut", {"axis": _POSITIONS, "length": length})

    def cache(self) -> dict[str, NDArray[Any]]:
        if not self._kept:
            return dict(self._cache)
        worker = self._session.worker
        return worker.results(worker.ask("held", {"end": 0}))

    def _step(self, tokens: NDArray[np.int64], total: int, keep: int) -> NDArray[np.floating[Any]]:
        feeds = self._tokens(tokens, total, keep)
        held = {name: name for name in self._cache} if self._kept else {}
        if not self._kept:
            feeds |= self._cache
        logits = self._session.worker.run(
            self._session.fitting(feeds, held),
            [LOGITS],
            held=held,
            keep={self._present[name]: name for name in self._cache},
        )[LOGITS]
        self._kept = True
        return logits[:, -keep:]
