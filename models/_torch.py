"""What families share in talking to PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphopt.families import Reference


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Inside, attention is computed step by step: the other ways look into the mask, which the meta device lacks."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def tensor_outputs(model: Any, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the tensors that `model(**kwargs)` returns, in order."""
    import torch

    with torch.no_grad(), eager_attention(model):
        results = model(**kwargs, return_dict=True)
    return tuple(name for name, value in results.items() if isinstance(value, torch.Tensor))


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
