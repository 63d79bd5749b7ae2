"""Exported nets of many architectures through graphopt: what becomes of nodes, bytes, speed and results.

    python benchmarks/coverage.py                      # all that is not measured yet: ten minutes
    python benchmarks/coverage.py --only resnet --only 'bert|vit'
    python benchmarks/coverage.py --again              # measure what is known, too

Nets are made small, with seeded random weights, by torch's two exporters and by hand (`_nets*.py`). Each is
made `lossless` and `int8` by graphopt and slimmed by onnxslim, and these and the source take turns in one
process, on one thread. What is known of the same net and the same code is in WORK and stays; what was found
is merged into benchmarks/results/coverage.json.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import _nets
import _nets_detectors
import _nets_torch
import _nets_transformers
import numpy as np
import peers
from _provenance import OVER_ROUNDS, here
from _recipes import HERE, OURS
from _results import Row, Table, option, record
from _rounds import stamp

from graphopt.metrics import Estimate

NETS = (*_nets_transformers.NETS, *_nets_torch.NETS, *_nets_detectors.NETS)
SLIM = "optimizers"
_WORKER = HERE / "_coverage_worker.py"
_SLIM = HERE / "_coverage_slim.py"
_SOURCES = tuple(sorted(HERE.glob("_nets*.py")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="nets whose whole name matches this expression")
    parser.add_argument("--again", action="store_true", help="measure what is known, too")
    parser.add_argument("--work", type=Path, default=Path("build/coverage"))
    option(parser, "coverage")
    args = parser.parse_args()
    peers.make(SLIM)
    chosen = [net for net in NETS if not args.only or any(re.fullmatch(one, net.name) for one in args.only)]
    rows = [
        row for net in chosen if (row := measured(net, args.work / net.name, again=args.again)) is not None
    ]
    record(args.json, [table(rows)])


def measured(net: _nets.Net, folder: Path, *, again: bool) -> Row | None:
    """The row of one net, made where it is not known."""
    export(net, folder)
    known, made = folder / "row.json", stamp(folder / "model.onnx", _WORKER, _SLIM, *OURS)
    kept: dict[str, Any] = json.loads(known.read_text()) if known.is_file() else {}
    if again or kept.get("made") != made:
        said = run([str(peers.python(SLIM)), "-W", "ignore", str(_SLIM), str(folder)])
        found = run([sys.executable, "-W", "ignore", str(_WORKER), str(folder)])
        kept = {"made": made, "row": found | ({"slim_refused": said} if said else {})}
        if "crashed" not in found:  # of which a kill is one kind
            known.write_text(json.dumps(kept))
        print(net.name, kept["row"], file=sys.stderr, flush=True)
    row = {"net": net.name, "family": net.family, "exported": net.how} | kept["row"]
    return {key: Estimate(**cell) if isinstance(cell, dict) else cell for key, cell in row.items()}


def export(net: _nets.Net, folder: Path) -> None:
    """Write model.onnx, small.npz and large.npz, unless these sources have."""
    mark, made = folder / "made", stamp(*_SOURCES)
    if mark.is_file() and mark.read_text() == made:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, feeds in zip(("small", "large"), net.make(folder), strict=True):
        np.savez(folder / f"{name}.npz", **feeds)
    mark.write_text(made)


def run(command: list[str]) -> Any:
    """What its last line says as JSON; a row that says so where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"crashed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:160]}
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[Row]) -> Table:
    return Table(
        name="nets",
        key="net",
        rows=rows,
        interval=f"{OVER_ROUNDS} of milliseconds: the source's over the package's",
        notes=["Nodes: those of subgraphs too; those of a local function as often as it is called."],
        **here("torch", "transformers", "onnx", rounds=_rounds()),
    )


def _rounds() -> int:
    from _coverage_worker import ROUNDS

    return ROUNDS


if __name__ == "__main__":
    main()
