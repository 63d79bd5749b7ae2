"""What evidence says for and against one bound, and what more would decide."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from graphopt.gate._bounds import Operator
from graphopt.gate._looks import MINIMUM_BLOCKS, level_at, p_over_looks
from graphopt.metrics import (
    Documents,
    Estimate,
    Evidence,
    Inference,
    Known,
    Turns,
    control,
    infer,
    units_needed,
)

__all__ = ["Finding", "weigh"]


@dataclass(frozen=True)
class Finding:
    """`broken` and `kept` are p values of "the bound is broken" and "the bound is kept".

    `why_broken` and `why_open` are what is said where that is found, and where nothing is; `needed` what
    would decide then.
    """

    estimate: Estimate
    units: int
    broken: float
    kept: float
    why_broken: str
    why_open: str = ""
    needed: Callable[[], str] = str


def weigh(
    evidence: Evidence,
    operator: Operator,
    bound: float,
    relative: bool,
    alpha: float,
    look: tuple[int, int] | None,
) -> Finding:
    """Weigh `evidence` for "value `operator` `bound`", at the one-sided level `alpha` over all looks."""
    found = infer(evidence, relative=relative)
    if isinstance(evidence, Turns):
        return _weigh_turns(evidence, found, operator, bound, relative, alpha, look)
    estimate = found.interval(1 - 2 * alpha)
    text = _broken_text(estimate, operator, bound, relative)
    if isinstance(found, Known):
        holds = _holds(found.value, operator, bound)
        return Finding(estimate, found.units, float(holds), float(not holds), text)
    broken, kept = _sides(found, operator, bound)
    return Finding(
        estimate,
        found.units,
        broken,
        kept,
        text,
        _open_text(estimate, bound, relative, found.units, "document"),
        partial(_more_text, evidence, bound, relative, alpha),
    )


def _weigh_turns(
    evidence: Turns,
    found: Inference,
    operator: Operator,
    bound: float,
    relative: bool,
    alpha: float,
    look: tuple[int, int] | None,
) -> Finding:
    blocks = found.units
    most = look[1] if look else blocks
    level = level_at(blocks, most, alpha) if look else alpha
    estimate = found.interval(1 - 2 * level)
    text = _broken_text(estimate, operator, bound, relative)
    if math.isnan(found.value):
        return Finding(estimate, blocks, 0.0, 1.0, text)
    if blocks < MINIMUM_BLOCKS:
        why = f"{_count(blocks, 'block')} of turns {'is' if blocks == 1 else 'are'} too few to decide by"
        return Finding(estimate, blocks, 1.0, 1.0, text, why, lambda: f"at least {MINIMUM_BLOCKS} blocks")
    finest = _finest(evidence, bound, operator, alpha) if relative else None
    judged = bound if finest is None else finest
    if isinstance(found, Known):
        holds = _holds(found.value, operator, judged)
        broken, kept = float(holds), float(not holds)
    else:
        broken, kept = _sides(found, operator, judged)
    if look:
        broken, kept = (p_over_looks(p, blocks, most) for p in (broken, kept))
    if finest is None:
        why = _open_text(estimate, bound, relative, blocks, "block")
        return Finding(
            estimate, blocks, broken, kept, text, why, partial(_more_text, evidence, bound, relative, alpha)
        )
    same = control(evidence, confidence=1 - 2 * alpha)
    why = (
        f"{bound:.4g}x is finer than this machine measures: the package over itself is {same} in the same run"
    )
    return Finding(estimate, blocks, broken, 1.0, text, why, partial(_finer_text, finest))


def _finest(evidence: Turns, bound: float, operator: Operator, alpha: float) -> float | None:
    """The finest bound that can be decided, where `bound` is finer: equals may be this far apart here."""
    if evidence.control is None:
        return None
    same = control(evidence, confidence=1 - 2 * alpha)
    apart = max(abs(math.log(same.low)), abs(math.log(same.high)))
    asked = math.log(bound) if bound > 0 else -math.inf
    if abs(asked) >= apart:
        return None
    slower = asked > 0 or (asked == 0 and operator in ("<=", "<"))
    return math.exp(apart if slower else -apart)


def _sides(found: Inference, operator: Operator, bound: float) -> tuple[float, float]:
    """p values of the bound being broken, and kept. Nothing shows that a value is just what it should be."""
    above, below = found.p_above(bound), found.p_below(bound)
    if operator == "==":
        return min(1.0, 2 * min(above, below)), 1.0
    return (above, below) if operator in ("<=", "<") else (below, above)


def _holds(value: float, operator: Operator, bound: float) -> bool:
    return {
        "<=": value <= bound,
        ">=": value >= bound,
        "<": value < bound,
        ">": value > bound,
        "==": value == bound,
    }[operator]


def _broken_text(estimate: Estimate, operator: Operator, bound: float, relative: bool) -> str:
    if math.isnan(estimate.value):
        return "the value is not a number"
    times = "x" if relative else ""
    value = f"{estimate.value:.4g}" if estimate.low == estimate.high else str(estimate)
    return f"{value}{times} is not {operator} {bound:.4g}{times}"


def _open_text(estimate: Estimate, bound: float, relative: bool, units: int, unit: str) -> str:
    if units == 1:
        return f"one {unit} alone does not say how far another would be from it"
    times = "x" if relative else ""
    return f"the interval of {estimate}{times} from {_count(units, unit)} holds the bound {bound:.4g}{times}"


def _more_text(evidence: Evidence, bound: float, relative: bool, alpha: float) -> str:
    unit = "document" if isinstance(evidence, Documents) else "block"
    needed = units_needed(evidence, bound, relative=relative, confidence=1 - 2 * alpha)
    if needed.units is None:
        return f"more {unit}s"
    tokens = f" ({needed.tokens:,} tokens)" if needed.tokens else ""
    return f"about {_count(needed.units, unit)}{tokens}, if the value is what was found"


def _finer_text(finest: float) -> str:
    return f"more time, a quieter machine, or a bound of {finest:.3f}x"


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}" + ("" if number == 1 else "s")
