"""A reference that needs no more than names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.families import Reference


class PlainReference(Reference):
    """A model called with its inputs by name, whose results are taken by name."""

    def __init__(self, model: Any, outputs: Sequence[str], flags: Mapping[str, bool]) -> None:
        self._model, self._outputs, self._flags = model, tuple(outputs), dict(flags)

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        with torch.no_grad():
            results = self._model(**tensors, **self._flags, return_dict=True)
        return {name: results[name].numpy() for name in self._outputs}
