"""What bits usually cost in accuracy, where nobody measured the model: from what was measured of others."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.machine import Interval
from graphopt.planner._recipes import Storing

__all__ = ["Typical", "together", "typical"]

_FILE = Path(__file__).with_name("damages.json")
_KEPT = 1.5
"""How many times what they do to the embedded model recipes may do (passes/recipes): where a recipe was not
measured, its bound over this is what is expected."""


@cache
def _data() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return data


@dataclass(frozen=True)
class Typical:
    """Divergences, in nats a token, of models that were measured; `models` are their names."""

    recipes: Mapping[str, Mapping[str, float]]
    cache: Mapping[str, Mapping[str, float]]
    plans: Mapping[str, Any]
    models: tuple[str, ...] = field(default=())

    def recipe(self, storing: Storing) -> Interval | None:
        """The divergence of a recipe as it is; of one that was not measured, from what it is held to. None
        where that says nothing of divergence."""
        known = self.recipes.get(storing.name)
        base = self._same(storing) if known is None else known
        if base is not None:
            return self._with_cache(_spread(base.values()), storing)
        bound = storing.recipe.budget.kl_mean
        if bound is None:
            return Interval(value=0.0, low=0.0, high=0.0) if storing.recipe.budget.lossless else None
        return Interval(value=bound / _KEPT, low=0.0, high=bound)

    def planned(self, storing: Storing, bpw: float) -> Interval | None:
        """The divergence of a plan of `bpw` bits a weight; None for a recipe that rounds otherwise than those
        that were measured."""
        if storing.planning is None or storing.planning != Storing(self.plans["recipe"]).planning:
            return None
        curve = self.plans["kl_mean"]
        bits = np.asarray([float(key) for key in curve])
        value = math.exp(float(np.interp(bpw, bits, np.log(list(curve.values())))))
        beyond = max(float(bits.min()) - bpw, bpw - float(bits.max()), 0.0)
        usual = self.recipes[self.plans["recipe"]]
        level = _spread([kl / usual[self.plans["model"]] for kl in usual.values()])
        wide = 4.0**beyond
        scaled = Interval(
            value=value * level.value, low=value * level.low / wide, high=value * level.high * wide
        )
        return self._with_cache(scaled, storing)

    def _same(self, storing: Storing) -> Mapping[str, float] | None:
        """Of a measured recipe that stores weights alike, if one does."""
        if storing.planner is None:
            return None
        return next(
            (known for name, known in self.recipes.items() if Storing(name).planning == storing.planning),
            None,
        )

    def _with_cache(self, kl: Interval, storing: Storing) -> Interval:
        more = self.cache.get(str(storing.cache_bits()))
        if more is None:
            return kl
        added = _spread(more.values())
        return Interval(value=kl.value + added.value, low=kl.low + added.low, high=kl.high + added.high)


@cache
def typical() -> Typical:
    """What graphopt's own benchmarks found (benchmarks/_typical.py)."""
    data = _data()
    models = tuple(dict.fromkeys(model for known in data["recipes"].values() for model in known))
    return Typical(data["recipes"], data["cache"], data["plans"], models)


def together(predicted: float, factor: float | None = None, near: float | None = None) -> Interval:
    """The divergence of a plan whose damages were measured on calibration text and `predicted` from them.

    On other text it is `factor` times as large, as that of a package of the model was, or as is usual where
    none was measured. The further that package's divergence, `near`, is from this one's, the wider the
    interval.
    """
    usual, off = _data()["together"], _data()["together"]["ninety_percent"]
    value = predicted * (usual["factor"] if factor is None else factor)
    if factor is None:
        off = max(off, usual["factor"] - 1)
    elif near and value:
        off += usual["drift"] * abs(math.log(value / near))
    return Interval(value=value, low=value * max(0.0, 1 - off), high=value * (1 + off))


def drafts(prompt: int) -> Interval:
    """How many times as fast drafts from the text itself make writing, at most and at least as measured."""
    known = _data()["drafts"]
    low, high = known[min(known, key=lambda length: abs(int(length) - prompt))]
    return Interval(value=math.sqrt(low * high), low=low, high=high)


def _spread(values: Collection[float]) -> Interval:
    """Where another model's value lies, nine times of ten, by Student's t of logarithms of two or more."""
    from scipy import special

    logs = np.log(list(values))
    middle, count = float(logs.mean()), len(logs)
    t = float(special.stdtrit(count - 1, 0.95))
    half = t * float(logs.std(ddof=1)) * math.sqrt(1 + 1 / count)
    return Interval(value=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half))
