"""How far the divergence that plans are chosen by is from that of the packages they become.

    python benchmarks/planned.py         # about ten minutes

The embedded model's damages are measured once, with a package that is no point here; they lie in WORK/cache.
Then `graphopt.planner` chooses, by these damages, the plan of least divergence within so many bits a weight,
its recipe is given to `optimize` as the file that it is, and the package's divergence on held-out text, as
its closing check measures it, is put beside the prediction.
"""

from __future__ import annotations

import argparse
import datetime
import os
from pathlib import Path

from _page import middle_of
from _plan_errors import plan_errors
from _provenance import here
from _results import Row, Table, option, record
from _rounds import table_of

import graphopt
from graphopt.machine import Interval, Profile, Tier, known_profile
from graphopt.metrics import Estimate
from graphopt.plan import parse_bounds
from graphopt.planner import BOUNDED, Request, choose, planned_source, recipe_of
from graphopt.plugins import registry
from graphopt.recipes import recipe_toml

MODEL = "tiny-coder"
FIRST = "bpw=4.6"
BITS = (4.0, 4.25, 4.75, 5.0, 5.5, 6.0, 7.0, 8.0)
_INTERVAL = "where nine of ten measurements were predicted to lie"


def measured(package: graphopt.Package) -> float:
    """Its mean divergence from the source, on held-out text."""
    return next(one.value for one in package.report().closing.metrics if one.metric == "kl_mean")


def profile() -> Profile:
    """Of this machine, or where it was not measured, of any: times play no part here."""
    one = Interval(value=1e10, low=1e10, high=1e10)
    return known_profile(registry.default_target()()) or Profile(
        name="any",
        kind="cited",
        target=registry.default_target().name,
        date=datetime.date(2026, 11, 30),
        memory_bytes=1 << 40,
        tiers=(Tier(name="DRAM", bytes=1 << 40, read={1: one}),),
        peaks={kind: {1: one} for kind in ("fp32", "int8")},
    )


def first(work: Path) -> float:
    """The divergence of the package that plans are scaled by, and which leaves the damages in the cache."""
    made = graphopt.optimize(MODEL, work / "first", recipe="int4", budget=(FIRST,), verify="off", force=True)
    return measured(made)


def rows(work: Path) -> list[Row]:
    planned = planned_source(MODEL)
    assert planned.sensitivities is not None, "the first run keeps its damages"
    machine = profile()
    found: list[Row] = []
    for bits in BITS:
        bounds = parse_bounds([f"bpw={bits:g}"], BOUNDED)
        best = choose(
            Request(
                MODEL, planned.work, (machine,), ("int4",), bounds, "kl", sensitivities=planned.sensitivities
            )
        ).best
        file = work / f"planned-{bits:g}.toml"
        file.write_text(recipe_toml(recipe_of(best.candidate)), encoding="utf-8")
        package = graphopt.optimize(
            MODEL, work / f"planned-{bits:g}", recipe=str(file), verify="off", force=True
        )
        kl, came = best.prediction.metrics["kl_mean"], measured(package)
        found.append(
            {
                "plan": f"{bits:g} bits",
                "predicted": Estimate(kl.value, kl.low, kl.high),
                "measured": came,
                "off_percent": 100 * (kl.value / came - 1),
                "held": kl.low <= came <= kl.high,
            }
        )
        print(found[-1], flush=True)
    return found


def judged(found: list[Row], scaled_by: float) -> list[Row]:
    """Median and largest error, and how many intervals held."""
    errors = plan_errors(*([middle_of(row[key]) for row in found] for key in ("predicted", "measured")))
    held = sum(1 for row in found if row["held"])
    return [{"of": "plans of the embedded model", "first": scaled_by, **errors, "intervals_held": held}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/planned"))
    option(parser, "planned")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    os.environ["GRAPHOPT_CACHE"] = str(args.work.absolute() / "cache")
    scaled_by = first(args.work)
    found = rows(args.work)
    about = {"cell": {"model": MODEL}, "interval": _INTERVAL, **here("torch", "scipy")}
    tables = [
        Table(name="planned", key="plan", rows=found, **about),
        Table(name="judged", key="of", rows=judged(found, scaled_by), **about),
    ]
    record(args.json, tables)
    for table in tables:
        print(f"{table_of(table.rows)}\n")


if __name__ == "__main__":
    main()
