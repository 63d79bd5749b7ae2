"""How much more would have to be measured to decide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.metrics._evidence import Documents, Evidence
from graphopt.metrics._infer import infer
from graphopt.metrics._inference import Drawn, Studentized

__all__ = ["Needed", "units_needed"]


@dataclass(frozen=True)
class Needed:
    """`units`: documents or blocks, all together; None where no number would do. `tokens` of documents."""

    units: int | None
    tokens: int | None = None


def units_needed(
    evidence: Evidence, bound: float, *, relative: bool = False, power: float = 0.9, confidence: float = 0.95
) -> Needed:
    """How many units it takes to tell the true value from `bound` with a probability of about `power`, if the
    true value is what this pilot found.

    n = pilot's n · ((t + t') · error / distance)², t and t' the quantiles of Student's t at the pilot's
    degrees of freedom for the confidence (one side) and the power: the first of the two stages of Stein 1945,
    "A two-sample test for a linear hypothesis whose power is independent of the variance", Annals of
    Mathematical Statistics 16. The test that follows takes its own variance instead of the pilot's, which
    costs power, the more the smaller the pilot. A pilot of one unit, or on the bound, says nothing.
    """
    from scipy import special

    found = infer(evidence, relative=relative)
    tokens = sum(map(len, evidence.values)) if isinstance(evidence, Documents) else None
    if not isinstance(found, (Drawn, Studentized)):
        return Needed(None) if math.isnan(found.value) or found.units == 1 else Needed(found.units, tokens)
    freedom = found.units - 1
    distance = found.distance(bound)
    if distance == 0:
        return Needed(None)
    quantiles = special.stdtrit(freedom, (1 + confidence) / 2) + special.stdtrit(freedom, power)
    units = found.units * max(1.0, (quantiles / abs(distance)) ** 2)
    if not np.isfinite(units):
        return Needed(None)
    return Needed(math.ceil(units), tokens and math.ceil(units * tokens / found.units))
