"""An input domain for graphs of one input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphopt.families import Case, InputDomain


class Cases(InputDomain):
    """Two rows that are padded, two that are not, and one."""

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        for name, rows, padding in (("padded", 2, "left"), ("two", 2, "none"), ("one", 1, "none")):
            yield Case(name, {"x": rng.standard_normal((rows, 4)).astype(np.float32)}, {}, padding)
