"""What storing weights in other forms does to a model's answers, measured in KL divergence on real text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.calibrate import Branches
from graphopt.ir import Expr, tiles

from ._forms import Form
from ._nbits import unpacked
from ._rounding import Rounding, SiteRounding
from ._trials import Divergence, product
from ._units import Site, WeightUnit

__all__ = ["Damages", "measure"]

Array = NDArray[Any]
_ROWS = 128
"""Of a weight, by which its error in each form is estimated; its damage is measured in a few."""
_TOKENS = 256
"""By which that is estimated."""

_SMALLEST = 1e-30
"""Of a power, so that what is zero throughout is not off by anything."""


@dataclass(frozen=True)
class Damages:
    """What forms do: `errors` of the products of units, by number, in power and relative to them, and the
    damage of some forms `alone`, in nats a token; `joint` are the damages of plans that were measured as a
    whole.
    """

    errors: Mapping[int, Mapping[Form, float]]
    alone: Mapping[int, Mapping[Form, float]]
    joint: Mapping[int, float]


def measure(
    branches: Branches,
    units: Sequence[WeightUnit],
    forms: Sequence[Form],
    *,
    alone: Collection[int],
    trials: Sequence[Form],
    plans: Mapping[int, Sequence[Form]],
    rounding: Rounding,
    level: int,
    watch: Callable[[Sequence[Any]], Iterable[Any]],
) -> Damages:
    """Measure those of `units` whose numbers are in `alone` in each of the `forms`: the error, and for
    `trials` the damage done alone.

    `plans`, a form for each unit, are measured as they are. The output of `branches` are logits [..., tokens,
    vocabulary]. Weights are rounded by `rounding`, and products are those of the kernel that will run them,
    at this accuracy `level`, which rounds activations. `watch` gives out what it is given, and tells how far
    it is. What is found of a unit or plan does not depend on which others are measured.
    """
    visits = [(site, number) for number, unit in enumerate(units) for site in unit.sites]
    visits.sort(key=lambda visit: visit[0].place)
    errors = {number: dict.fromkeys(forms, 0.0) for number in alone}
    for site, number in watch(visits):
        is_last = (site, number) == visits[-1]
        branches.advance([site.x] if is_last else [site.x, site.y])
        if number not in errors and not plans:
            continue
        how = rounding.at(site)
        if number in errors:
            for form, error in _errors(site, forms, branches.values(site.x), how, level).items():
                errors[number][form] += error
        for form in forms:
            names: list[Any] = [(number, form)] if number in errors and form in trials else []
            names += [("plan", at) for at, plan in plans.items() if plan[number] == form]
            if names:
                make = _replacement(site, form, how, level)
                for name in names:
                    branches.change(name, site.y, make, site.x)
    divergence = Divergence()
    found = branches.compared(
        lambda outputs: divergence.expected(outputs[0]),
        lambda expected, outputs: divergence.of(expected, outputs[0]),
    )
    damage = {name: float(np.mean(np.concatenate(parts), dtype=np.float64)) for name, parts in found.items()}
    return Damages(
        errors,
        {number: {form: damage[number, form] for form in trials} for number in alone},
        {at: damage["plan", at] for at in plans},
    )


def _replacement(site: Site, form: Form, how: SiteRounding, level: int) -> Callable[[Array], Array]:
    """What the site gives for its x, its weight being in `form`."""
    packed = how.whole(form)
    width = site.rows.shape[1]
    if site.is_lookup:
        table = unpacked(packed, form.bits, width).astype(site.dtype)
        return lambda ids: table[ids]
    return product(packed, form, width, level, site.bias)


def _errors(
    site: Site, forms: Sequence[Form], inputs: Sequence[Array], how: SiteRounding, level: int
) -> dict[Form, float]:
    """The power of the error of some of a site's results, relative to that of the results."""
    width = site.rows.shape[1]
    rows = _some_rows(site.rows)
    if site.is_lookup:
        return {form: _power(unpacked(how.of(rows, form), form.bits, width), rows) for form in forms}
    x = np.concatenate([array.reshape(-1, width) for array in inputs])
    x = np.ascontiguousarray(x[:: -(-len(x) // _TOKENS)], dtype=np.float32)
    exact = x @ rows.T
    return {form: _power(product(how.of(rows, form), form, width, level)(x), exact) for form in forms}


def _power(found: Array, exact: Array) -> float:
    return float(((found - exact) ** 2).sum() / max(float((exact**2).sum()), _SMALLEST))


def _some_rows(rows: Expr) -> Array:
    """At most `_ROWS` of them, the same distance apart."""
    step = -(-rows.shape[0] // _ROWS)
    kept, start = [], 0
    for _, tile in tiles(rows):
        kept.append(tile[-start % step :: step])
        start += len(tile)
    return np.ascontiguousarray(np.concatenate(kept))
