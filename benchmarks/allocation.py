"""How far what is predicted of plans is from what comes of them.

    python benchmarks/allocation.py      # about ten minutes

Packages of the embedded model within budgets of 2.6 to 8 bits a weight. Damages of its units are measured
once, on calibration text, and kept in WORK/cache. KL divergence of each package from the model in fp32 is
measured on 16,384 tokens of held-out text, as deployed. Predictions are judged as they are made, and times
one factor: the measured over the predicted damage of one more plan, which is not judged. `optimize` corrects
a plan in the same way.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from _damage import torch_logits
from _lms import LMS, TOKENS, heldout
from _page import middle_of
from _plan_errors import plan_errors
from _provenance import here
from _results import Row, Table, option, record
from _rounds import table_of
from scipy.stats import spearmanr

import graphopt
from graphopt.evaluate import session_logits
from graphopt.evaluate._tokens import compare_tokens
from graphopt.metrics import Documents, Estimate, estimate
from graphopt.package import LOCK

MODEL = "tiny-coder"
BITS = (2.6, 2.8, 3.0, 3.25, 3.5, 3.75, 4.0, 4.2, 4.4, 4.75, 5.0, 5.5, 6.0, 7.0, 8.0)
CORRECTOR = 4.6
_KINDS = {"as predicted": "predicted", "times one factor": "corrected"}
_INTERVAL = "95 % bootstrap interval, over windows of the held-out text, of the mean KL divergence from fp32"


class Measuring:
    """Packages of the model within budgets, and their damage on held-out text."""

    def __init__(self, work: Path, tokens: int) -> None:
        self._work, self._texts = work, heldout(LMS[MODEL], tokens)
        logits = torch_logits(LMS[MODEL], "float32")
        self._expected = [logits(text) for text in self._texts]

    def of(self, bits: float) -> tuple[float, Estimate]:
        """KL divergence with so many bits a weight: what is predicted, and what is measured."""
        package = graphopt.optimize(
            LMS[MODEL],
            self._work / f"plan-{bits}",
            recipe="int4",
            budget=(f"bpw={bits}",),
            verify="off",
            validate=False,
            force=True,
        )
        logits = session_logits(package.session())
        found = [
            compare_tokens([logits(text)], expected, text)[0].divergence
            for text, expected in zip(self._texts, self._expected, strict=True)
        ]
        lock = json.loads((package.path / LOCK).read_text(encoding="utf-8"))
        return lock["decisions"]["plan"]["predicted"]["kl_mean"], estimate(Documents(tuple(found)))


def judged(rows: Sequence[Row]) -> list[Row]:
    """How well predictions order plans (Spearman's rank correlation), and how far off they are."""
    measured = [float(middle_of(row["measured"])) for row in rows]
    found: list[Row] = []
    for name, column in _KINDS.items():
        predicted = [float(middle_of(row[column])) for row in rows]
        rank = float(spearmanr(predicted, measured).statistic)
        found.append({"predictions": name, "rank_correlation": rank, **plan_errors(predicted, measured)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--work", type=Path, default=Path("build/allocation"))
    option(parser, "allocation")
    args = parser.parse_args()
    os.environ["GRAPHOPT_CACHE"] = str(args.work / "cache")
    measuring = Measuring(args.work, args.tokens)
    predicted, measured = measuring.of(CORRECTOR)
    factor = measured.value / predicted
    rows: list[Row] = []
    for bits in BITS:
        predicted, measured = measuring.of(bits)
        rows.append({"plan": f"{bits:g} bits", "predicted": predicted, "corrected": factor * predicted})
        rows[-1]["measured"] = measured
        print(rows[-1], flush=True)
    cell: dict[str, bool | int | float | str] = {"model": MODEL, "tokens": args.tokens}
    note = f"the factor, {factor:.3f}, is that of a plan of {CORRECTOR} bits, which is not among those judged"
    about = {"cell": cell, "interval": _INTERVAL, "notes": [note], **here("torch", "scipy")}
    tables = [
        Table(name="plans", key="plan", rows=rows, **about),
        Table(name="judged", key="predictions", rows=judged(rows), **about),
    ]
    record(args.json, tables)
    for table in tables:
        print(f"{table_of(table.rows)}\n")


if __name__ == "__main__":
    main()
