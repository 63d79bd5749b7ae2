"""Nets of convolutions, detectors and recurrent nets in int8: graphopt beside onnxruntime and OpenVINO.

    python benchmarks/vision.py                          # everything
    python benchmarks/vision.py --only make              # what is compared; the rest starts from it
    python benchmarks/vision.py --net resnet18 --rounds 2

Published shapes have random weights whose batch norms were settled on drawn pictures; `glyphs` and `scenes`
are trained (benchmarks/train_vision.py) and judged on held-out pictures, too. Everyone starts from one export
and calibrates on the same pictures. A round starts everyone's process anew, graphopt's int8 package twice
(the control), and has them call one picture in turn, on one thread and on two. Rounds are kept in
WORK/vision.jsonl; what was found is merged into benchmarks/results/vision.json.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from _images import images, scene
from _provenance import OVER_ROUNDS, here, of_rounds
from _results import Row, Table, option, record
from _rounds import AGAIN, Peer, Round, Rounds, deadline, median, ratio, rows_of, stamp, table_of
from _turned import turns
from _vision_accuracy import boxes_rows, labels_rows
from _vision_recipes import HERE, INT8, RECIPES, SOURCE, Made, Recipe
from _vision_sources import SOURCES

WORKER = HERE / "_vision_worker.py"
HELDOUT = 2
"""The seed that training was judged on, and nothing learned from."""
IMAGES = {"glyphs": 2500, "scenes": 500}
"""Held-out pictures that the trained nets are judged on."""
THREADS = (1, 2)
SECONDS, REPEATS = 0.06, 3
"""Of a turn, and turns in a round."""
Found = list[tuple[dict[str, Any], list[Round]]]


def peers(made: dict[Recipe, Made], inputs: Path) -> list[Peer]:
    found = []
    for recipe, one in made.items():
        if one.path:
            words = (str(recipe.python), str(WORKER), recipe.engine, str(one.path), str(inputs))
            threads = map(str, THREADS)
            found.append(Peer(recipe.name, (*words, "--threads", *threads), stamp(WORKER, one.path)))
    return found + [one.again() for one in found if one.name == INT8.name]


def measure(
    kept: Rounds,
    cells: Sequence[dict[str, Any]],
    them: Sequence[Peer],
    count: int,
    in_time: Callable[[], bool],
) -> bool:
    """Have `count` rounds of every cell, which are of numbers of threads; whether they are all there."""
    asked = [f"{cell['threads']} {SECONDS}" for cell in cells]
    while (number := min(len(kept.of(cell, them)) for cell in cells)) < count:
        if not in_time():
            return False
        results = turns(them if number % 2 == 0 else them[::-1], asked, REPEATS)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for cell, line in zip(cells, asked, strict=True):
            kept.add(Round(cell, {p.name: p.made for p in them}, now, results[line]))
    return True


def size_table(net: str, made: dict[Recipe, Made]) -> Table:
    """What each needs to be run."""
    rows: list[Row] = [
        {"peer": r.name} | ({"failed": one.failed} if one.failed else {"mb": one.megabytes})
        for r, one in made.items()
    ]
    return Table(name="size", cell={"net": net}, key="peer", base=(SOURCE.name,), rows=rows, **here())


def speed_table(cell: dict[str, Any], rounds: Sequence[Round]) -> Table:
    """How many times as fast graphopt's int8 is as each, and each as the source."""

    def measured(name: str, results: list[dict[str, Any]]) -> Row:
        row: Row = {"ms": median([one["ms"] for one in results]).value}
        pairs = {"int8_is": (INT8.name, name), "over_source": (name, SOURCE.name)}
        for column, pair in pairs.items():
            if pair[0] != pair[1] and set(pair) <= rounds[0].results.keys():
                row[column] = ratio(rounds, *pair, "calls")
        return row

    rows = rows_of(rounds, measured)
    whose = f"{OVER_ROUNDS} of calls a second: {INT8.name} over the row, the row over {SOURCE.name}"
    base = (SOURCE.name, INT8.name, INT8.name + AGAIN)
    return Table(
        name="speed", cell=cell, key="peer", base=base, interval=whose, rows=rows, **of_rounds(rounds)
    )


def outputs(recipe: Recipe, model: Path, inputs: Path, work: Path) -> np.ndarray[Any, Any]:
    """What the net makes of all pictures, one by one."""
    out = work / "outputs.npy"
    words = [str(recipe.python), str(WORKER), recipe.engine, str(model), str(inputs), "--outputs", str(out)]
    subprocess.run(words, check=True)
    found: np.ndarray[Any, Any] = np.load(out)
    return found


def accuracy_table(net: str, made: dict[Recipe, Made], work: Path) -> Table:
    count, inputs = IMAGES[net], work / f"{net}-heldout.npz"
    if not inputs.is_file():
        np.savez(inputs, x=SOURCES[net].samples(HELDOUT, count))
    found = {recipe.name: outputs(recipe, one.path, inputs, work) for recipe, one in made.items() if one.path}
    if net == "glyphs":
        rows = labels_rows(found, images(HELDOUT, count)[1])
    else:
        rows = boxes_rows(found, [scene(HELDOUT, number) for number in range(count)])
    cell = {"net": net, "images": count}
    whose = "95 % Wilson interval, over pictures or boxes; of points that of the mean of paired pictures"
    return Table(name="accuracy", cell=cell, key="peer", interval=whose, rows=rows, **here("numpy", "pillow"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=SOURCES, default=tuple(SOURCES))
    parser.add_argument("--peer", nargs="+", help="only those whose name matches this expression")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="begin no round later than this")
    parser.add_argument("--only", choices=["make", "accuracy", "speed"])
    parser.add_argument("--work", type=Path, default=Path("build/vision"))
    option(parser, "vision")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    kept, in_time, whole = Rounds(args.work / "vision.jsonl"), deadline(args.minutes), True
    recipes = [r for r in RECIPES if not args.peer or any(re.search(p, r.name) for p in args.peer)]
    for net in args.net:
        folder = args.work / net
        made = {recipe: recipe.made(net, folder) for recipe in recipes if recipe.suits(SOURCES[net])}
        timed = {recipe: one for recipe, one in made.items() if recipe.timed}
        tables = [size_table(net, timed)]
        if args.only in ("accuracy", None) and SOURCES[net].trained:
            tables.append(accuracy_table(net, made, args.work))
        if args.only in ("speed", None):
            them = peers(timed, folder / "exported" / "inputs.npz")
            cells = [{"net": net, "threads": threads} for threads in THREADS]
            whole &= measure(kept, cells, them, args.rounds, in_time)
            tables += [speed_table(cell, found) for cell in cells if (found := kept.of(cell, them))]
        record(args.json, tables)
        for table in tables:
            print(f"{table.cell}\n{table_of(table.rows)}\n", flush=True)
    if not whole:
        sys.exit("not all rounds are there yet: give the same command again")


if __name__ == "__main__":
    main()
