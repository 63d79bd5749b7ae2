"""How often a gate is right: simulated with known truth, and on this machine with equals.

    python benchmarks/gates.py                       # simulate everything: about ten minutes
    python benchmarks/gates.py --only texts          # one part of it
    python benchmarks/gates.py --quick               # a tenth of it, to see that it runs; nothing is kept
    python benchmarks/gates.py --render              # only write docs/gates.md from what was found before
    python benchmarks/gates.py --real PACKAGE --times 30   # the package against itself, by `graphopt gate`
    python benchmarks/gates.py --planted             # regressions planted in packages, by `graphopt gate`

The code that decides is the one that `graphopt gate` decides with. Results are merged into
benchmarks/results/gates.json, and the marked section of docs/gates.md is written from there.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import multiprocessing
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from _gate_noise import KINDS
from _gate_page import write_page
from _gate_planted import planted
from _gate_real import accuracy_seconds, equals
from _gate_simulations import (
    Speed,
    documents_covered,
    families,
    lengths,
    share,
    speed_gates,
    text_gates,
    turns_covered,
)
from _gate_texts import Population, measured
from _results import Row, Table, command, option, record, today, versions
from _rounds import machine

from graphopt.gate import MOST_BLOCKS, SPEED_BOUND

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gates.md"
SEED = 2026
CVS = (0.02, 0.04, 0.06, 0.08, 0.10)
QUIET = 0.03
"""The CV at which a slowdown has to be found."""
SLOWDOWN = 1.1
WITHIN = 20
"""Blocks within which it has to be."""
KL_BOUND = 1.05
TOKENS = 16384
BINOMIAL = "exact binomial interval of 95 %"

Job = Callable[[int], Any]
"""Of a seed."""


def run_all(jobs: Sequence[Job]) -> list[Any]:
    """Each with a seed of its own, on all cores, a thread each."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    cores, fresh = len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=fresh) as pool:
        return [future.result() for future in [pool.submit(job, SEED + n) for n, job in enumerate(jobs)]]


def table(name: str, key: str, rows: list[Row], *notes: str, **cell: bool | int | float | str) -> Table:
    return Table(
        name=name,
        cell=cell,
        date=today(),
        machine=machine(),
        versions=versions("graphopt", "numpy", "scipy"),
        command=command(),
        interval=BINOMIAL,
        key=key,
        rows=rows,
        notes=[f"seed {SEED}", *notes],
    )


def verdict_row(key: str, name: str, found: Iterable[tuple[Counter[str], list[int]]]) -> Row:
    """Shares of verdicts over all of `found`, and the median of blocks."""
    counts, blocks = Counter[str](), list[int]()
    for verdicts, taken in found:
        counts += verdicts
        blocks += taken
    row: Row = {key: name, "gates": len(blocks)}
    row |= {verdict: share(counts[verdict], len(blocks)) for verdict in ("pass", "fail", "inconclusive")}
    return row | {"blocks": statistics.median(blocks)}


def false_alarms(gates: int) -> list[Table]:
    """Packages as fast as their baselines."""
    cases = [(kind, cv) for kind in KINDS for cv in CVS]
    speeds = [Speed(kind, cv, 1.0, SPEED_BOUND, MOST_BLOCKS, MOST_BLOCKS) for kind, cv in cases]
    found = dict(zip(cases, run_all([partial(_speed, s, gates) for s in speeds]), strict=True))
    rows = [verdict_row("machine", kind, (found[kind, cv] for cv in CVS)) for kind in KINDS]
    rows += [verdict_row("machine", f"CV {cv:.0%}", (found[kind, cv] for kind in KINDS)) for cv in CVS]
    rows.append(verdict_row("machine", "all", found.values()))
    return [table("no change", "machine", rows, bound=SPEED_BOUND, most=MOST_BLOCKS)]


def slowdowns(gates: int) -> list[Table]:
    """Packages that are slower by more than the bound, and by just as much as it."""
    tables = []
    for name, slowdown, limit in (("slower", SLOWDOWN, WITHIN), ("at the bound", SPEED_BOUND, MOST_BLOCKS)):
        speeds = [Speed(kind, QUIET, slowdown, SPEED_BOUND, limit, MOST_BLOCKS) for kind in KINDS]
        found = run_all([partial(_speed, s, gates) for s in speeds])
        rows = [verdict_row("machine", kind, [one]) for kind, one in zip(KINDS, found, strict=True)]
        rows.append(verdict_row("machine", "all", found))
        cell: dict[str, float] = {"bound": SPEED_BOUND, "slowdown": slowdown, "blocks": limit, "cv": QUIET}
        tables.append(table(name, "machine", rows, **cell))
    return tables


def choices(gates: int) -> list[Table]:
    """Other bounds and other numbers of blocks."""
    rows = []
    for bound in (1.05, 1.06, 1.07):
        for most in (20, 40, 60):
            equal = [Speed(kind, cv, 1.0, bound, most, most) for kind in KINDS for cv in CVS]
            slow = [Speed(kind, QUIET, SLOWDOWN, bound, WITHIN, most) for kind in KINDS]
            found = run_all([partial(_speed, s, gates) for s in (*equal, *slow)])
            row = verdict_row("choice", f"{bound}x, {most} blocks", found[: len(equal)])
            missed = verdict_row("choice", "", found[len(equal) :])
            rows.append(row | {"bound": bound, "most": most, "found": missed["fail"]})
    return [table("choices", "choice", rows)]


def several(gates: int) -> list[Table]:
    """Six gates at once, each at its bound."""
    counts = families(6, WITHIN, QUIET, SPEED_BOUND, gates, SEED)
    rows: list[Row] = [{"correction": name, "fail": share(n, gates)} for name, n in counts.items()]
    return [table("six gates", "correction", rows, bound=SPEED_BOUND, cv=QUIET, blocks=WITHIN)]


def divergences(population: Population, gates: int) -> list[Table]:
    """The divergence of a real package scaled to a known ratio, gated relative to its baseline and by
    itself."""
    jobs, names = [], []
    for worse in (1.0, KL_BOUND, 1.1):
        scaled = population.scaled(worse)
        own = scaled.truth(relative=False) / worse * KL_BOUND
        for relative, bound in ((True, KL_BOUND), (False, own)):
            jobs.append(partial(_text, scaled, bound, relative, gates))
            names.append((worse, "over the baseline's" if relative else "by itself"))
    rows: list[Row] = []
    for (worse, kind), counts in zip(names, run_all(jobs), strict=True):
        row: Row = {"case": f"{worse}x, {kind}", "worse": worse, "kind": kind, "gates": gates}
        rows.append(row | {v: share(counts[v], gates) for v in ("pass", "fail", "inconclusive")})
    documents = len(population.documents.values)
    note = f"documents of {TOKENS} tokens for each gate, drawn from {documents}"
    return [table("divergence", "case", rows, note, bound=KL_BOUND, tokens=TOKENS)]


def blocks_covered(runs: int) -> list[Table]:
    """How often intervals of few blocks hold the truth."""
    cases = [(kind, blocks) for kind in KINDS for blocks in (5, 8, 12, 20)]
    found = run_all([partial(_turns, kind, blocks, runs) for kind, blocks in cases])
    rows: list[Row] = [
        {"case": f"{kind}, {blocks} blocks", "runs": runs} | _shares(counts, runs)
        for (kind, blocks), counts in zip(cases, found, strict=True)
    ]
    return [table("coverage of blocks", "case", rows, cv=0.05)]


def texts_covered(populations: Mapping[str, Population], runs: int) -> list[Table]:
    """How often intervals of documents hold the truth."""
    cases = list(itertools.product(populations, (False, True), (16, 64)))
    found = run_all([partial(_documents, populations[m], rel, count, runs) for m, rel, count in cases])
    rows: list[Row] = [
        {"case": f"{m}{' over the baseline' * rel}, {count} documents", "runs": runs} | _shares(counts, runs)
        for (m, rel, count), counts in zip(cases, found, strict=True)
    ]
    return [table("coverage of documents", "case", rows)]


def _shares(counts: Counter[str], runs: int) -> Row:
    return {name: share(count, runs) for name, count in counts.items()}


def _speed(speed: Speed, gates: int, seed: int) -> tuple[Counter[str], list[int]]:
    return speed_gates(speed, gates, seed)


def _text(population: Population, bound: float, relative: bool, gates: int, seed: int) -> Counter[str]:
    return text_gates(partial(population.drawn_tokens, tokens=TOKENS), bound, relative, gates, seed)


def _turns(kind: str, blocks: int, runs: int, seed: int) -> Counter[str]:
    return turns_covered(kind, 0.05, blocks, runs, seed)


def _documents(population: Population, relative: bool, count: int, runs: int, seed: int) -> Counter[str]:
    return documents_covered(population, relative, count, runs, seed)


def cut_off(runs: int) -> list[Table]:
    """How long intervals are with a tenth cut off at either end, in those of Student's t of all blocks."""
    found = run_all([partial(lengths, kind, 0.05, WITHIN, runs) for kind in KINDS])
    rows: list[Row] = [{"machine": kind, "length": round(n, 3)} for kind, n in zip(KINDS, found, strict=True)]
    return [table("a tenth cut off", "machine", rows, cv=0.05, blocks=WITHIN)]


def parts(work: Path, scale: float) -> dict[str, Callable[[], list[Table]]]:
    """What is simulated, by name. `scale` is how much of it."""

    def texts() -> list[Table]:
        return divergences(measured(work)["kl_mean"], int(500 * scale))

    return {
        "equal": partial(false_alarms, int(60 * scale)),
        "slower": partial(slowdowns, int(400 * scale)),
        "texts": texts,
        "several": partial(several, int(2000 * scale)),
        "choices": partial(choices, int(20 * scale)),
        "cut": partial(cut_off, int(1000 * scale)),
        "blocks": partial(blocks_covered, int(1000 * scale)),
        "documents": lambda: texts_covered(measured(work), int(1000 * scale)),
    }


def real(package: Path, times: int) -> list[Table]:
    """The package gated against itself by the command line, and how long its gate of accuracy takes."""
    rows = list(equals(package, times))
    seconds = accuracy_seconds(package)
    return [
        table("equals here", "run", rows, package=package.name),
        table("seconds of an accuracy gate", "run", seconds, package=package.name),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gates", help="packages are made here")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="equal, slower, texts, several, choices, cut, blocks or documents")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--real", type=Path, metavar="PACKAGE")
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--planted", action="store_true")
    option(parser, "gates")
    args = parser.parse_args()
    if args.quick:
        for one in (t for part in parts(args.work, 0.1).values() for t in part()):
            print(one.name, *one.rows, sep="\n  ")
        return
    if args.real:
        record(args.json, real(args.real, args.times))
    elif args.planted:
        record(args.json, [table("planted", "case", list(planted(args.work)))])
    elif not args.render:
        for name, part in parts(args.work, 1.0).items():
            if args.only in (None, name):
                record(args.json, part())
                print(f"{datetime.datetime.now():%H:%M:%S} {name}: done", flush=True)
    write_page(PAGE, args.json)


if __name__ == "__main__":
    main()
