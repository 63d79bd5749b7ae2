"""A decoder's legal calls on real text: a lossy package is made for text, not for noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graphopt.families import Case
from graphopt.interface import Interface, Model

__all__ = ["on_text"]

REPEATS = 4
"""A case has few tokens: one that is noise can exceed what 99 % of a text stays under."""

Tokens = NDArray[np.int64]


def on_text(
    cases: Iterable[Case],
    tokens: Sequence[int],
    reference: Model,
    interface: Interface,
    states: Mapping[str, str],
) -> Iterator[Case]:
    """Each case of a causal language model several times, with consecutive `tokens` for its random ones.

    Its past are the `states` (`graphopt.families.Part.states`) that `reference`, which has this `interface`,
    computes for the text before.
    """
    text = np.asarray(tokens, np.int64)
    start = 0
    for case in cases:
        for _ in range(REPEATS):
            feeds = dict(case.feeds)
            mask = feeds["attention_mask"]
            rows = [np.flatnonzero(row) for row in mask]
            filled = np.zeros_like(mask)
            for row, places in zip(filled, rows, strict=True):
                row[places] = np.take(text, np.arange(start, start + len(places)), mode="wrap")
                start += len(places)
            width = feeds["input_ids"].shape[1]
            ids = filled[:, -width:]
            feeds["input_ids"] = np.where(mask[:, -width:] != 0, ids, feeds["input_ids"])
            feeds |= _past(feeds, filled[:, :-width], mask[:, :-width], reference, interface, states)
            yield replace(case, feeds=feeds)


def _past(
    feeds: Mapping[str, np.ndarray],
    ids: Tokens,
    mask: Tokens,
    reference: Model,
    interface: Interface,
    states: Mapping[str, str],
) -> dict[str, np.ndarray]:
    if not ids.shape[1]:
        return {}
    earlier = {name: array for name, array in feeds.items() if name not in states}
    earlier |= {"input_ids": ids, "attention_mask": mask}
    if "position_ids" in feeds:
        earlier["position_ids"] = np.maximum(mask.cumsum(1) - 1, 0) * mask
    empty = {
        spec.name: np.zeros(
            [
                0 if axis > 0 and isinstance(dim, str) else feeds[spec.name].shape[axis]
                for axis, dim in enumerate(spec.dims)
            ],
            spec.dtype,
        )
        for spec in interface.inputs
        if spec.name in states
    }
    results = reference({**earlier, **empty})
    return {name: np.asarray(results[states[name]]) for name in empty}
