"""The damages of a model's weights as plan-bits wants them: measured once, all at once or by shares."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Branches
from graphopt.interface import Arrays, adapt_feeds
from graphopt.pipeline import Context

from ._block_nodes import level_on
from ._calibrated import Hessians
from ._forms import Form
from ._rounding import Method, Rounding
from ._sensitivity import Damages, measure
from ._units import WeightUnit

__all__ = ["Measuring"]

T = TypeVar("T")
Floats = NDArray[np.float64]
_STEP = "plan-bits"
_WORK = 1e14
"""Operations of all trials together, at most: ten minutes of two cores. A window is read in any case."""
_JOINT = ("4/128", "4/64", "4/256", "8/128")
"""What all units are stored as in plans that are measured as a whole."""
_ITEM = "item"


class _Options(Protocol):
    @property
    def tokens(self) -> int: ...
    @property
    def rounding(self) -> Method: ...
    @property
    def sweeps(self) -> int: ...
    @property
    def accuracy_level(self) -> int: ...


class Measuring:
    """The damages of `units` of `graph`, in each of `forms`, and of a few plans as a whole.

    What is measured are items: units by number, and behind them plans. What is found of one does not depend
    on which are measured together.
    """

    def __init__(
        self,
        options: _Options,
        graph: ir.Graph,
        output: ir.Value,
        context: Context,
        units: Sequence[WeightUnit],
        forms: Sequence[Form],
    ) -> None:
        self._options, self._graph, self._output, self._context = options, graph, output, context
        self._units, self._forms = units, forms
        self._trials = _trials(forms)
        self._plans = [[form] * len(units) for form in forms if str(form) in _JOINT]
        self._plans.append([self._trials[index % len(self._trials)] for index in range(len(units))])
        self._key = [
            _STEP,
            [unit.names for unit in units],
            [str(form) for form in forms],
            options.tokens,
            "nearest" if options.rounding == "nearest" else ["gptq", options.sweeps],
            level_on(context.target, options.accuracy_level),
        ]

    def whole(self) -> dict[str, NDArray[Any]]:
        """Damage of each unit and form, float64 [units, forms]; sums of whole plans, and what they did.

        For any budget it is the same: it is what an earlier run found, or shares that runs found.
        """
        return self._context.remember(self._key, self._together, for_any_options=True)

    def share(self, part: tuple[int, int]) -> None:
        """Leave every nth item from item i on, of `part` (i, n), where `whole` finds them."""
        number, count = part
        for item, value in self._found(range(number, len(self._units) + len(self._plans), count)).items():
            found: Arrays = {_ITEM: value}
            self._context.remember(self._item(item), partial(dict, found), for_any_options=True)

    def _together(self) -> dict[str, NDArray[Any]]:
        units, forms = self._units, self._forms
        found = self._found(range(len(units) + len(self._plans)))
        damages = np.asarray([found[number] for number in range(len(units))])
        sums = [sum(damages[i, forms.index(form)] for i, form in enumerate(plan)) for plan in self._plans]
        joint = np.concatenate([found[len(units) + at] for at in range(len(self._plans))])
        return {"damages": damages, "sums": np.asarray(sums), "joint": joint}

    def _item(self, number: int) -> list[Any]:
        return [*self._key, _ITEM, number]

    def _found(self, items: Collection[int]) -> dict[int, Floats]:
        """Of a unit its damage in each form, of a plan what it did: remembered, else measured."""
        recalled = {n: self._context.recall(self._item(n), for_any_options=True) for n in items}
        found = {n: arrays[_ITEM] for n, arrays in recalled.items() if arrays is not None}
        units = len(self._units)
        alone = [n for n in items if n < units and n not in found]
        plans = {n: self._plans[n - units] for n in items if n >= units and n not in found}
        if alone or plans:
            measured = self._measured(alone, plans)
            found |= {n: self._damages(measured, n) for n in alone}
            found |= {n: np.asarray([measured.joint[n]]) for n in plans}
        return found

    def _measured(self, alone: Collection[int], plans: dict[int, list[Form]]) -> Damages:
        options, context = self._options, self._context
        level = level_on(context.target, options.accuracy_level)
        wanted = self._units if plans else [self._units[n] for n in alone]
        return measure(
            Branches(self._graph, self._calls, [self._output]),
            self._units,
            self._forms,
            alone=alone,
            trials=self._trials,
            plans=plans,
            rounding=self._rounding(wanted),
            level=level,
            watch=lambda visits: context.watch(visits, "measuring weight"),
        )

    @cached_property
    def _calls(self) -> Sequence[Any]:
        """Calls that damage is measured on: of the end of the calibration text."""
        data = self._context.calibration
        assert data is not None
        calls = [adapt_feeds(self._context.adapters, feeds) for feeds in data]
        entries = sum(unit.entries for unit in self._units)
        tokens = data.rows / len(calls)
        work = 2 * entries * tokens * max(1.0, len(self._units) * len(self._trials) / 2)
        count = max(1, min(len(calls), round(self._options.tokens / tokens), int(_WORK / work)))
        return _spread(calls[-max(count, len(calls) // 4) :], count)

    def _rounding(self, units: Sequence[WeightUnit]) -> Rounding:
        sites = [(site, site.rows.identity) for unit in units for site in unit.sites]
        looked_up: set[Hashable] = {key for site, key in sites if site.is_lookup}
        tables: dict[Hashable, ir.Value] = {key: site.x for site, key in sites if not site.is_lookup}
        collect = None
        if self._options.rounding != "nearest":
            collect = partial(Hessians, self._context, _STEP)
        read = {key: x for key, x in tables.items() if key in looked_up}
        return Rounding(collect, self._options.sweeps, read)

    def _damages(self, found: Damages, number: int) -> Floats:
        """Of a unit its damage in each form.

        What was not measured is as much larger than what was, of as many bits, as the error of its products
        is.
        """
        trial_of = {form.bits: form for form in self._trials}
        errors, alone = found.errors[number], found.alone[number]
        return np.asarray(
            [
                alone[trial_of[form.bits]] * errors[form] / (errors[trial_of[form.bits]] or 1.0)
                for form in self._forms
            ]
        )


def _spread(calls: Sequence[T], count: int) -> Sequence[T]:
    """So many of them, as far apart as they may be. GPTQ rounds by none of the last quarter."""
    return [calls[index * len(calls) // count] for index in range(count)]


def _trials(forms: Sequence[Form]) -> list[Form]:
    """One form of each number of bits: the middle one."""
    of_bits = {
        bits: [form for form in forms if form.bits == bits] for bits in sorted({f.bits for f in forms})
    }
    return [sorted(same)[len(same) // 2] for same in of_bits.values()]
