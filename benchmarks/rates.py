"""Seconds of MatMulNBits by block size, one token written and one read, for the weights of a model's shape.

    python benchmarks/rates.py --shape 2048x8192 --shape 8192x2048
    python benchmarks/rates.py --keep               # and add what was found to targets/cpu/knowledge.json

`quantize-weights.block_size=auto` decides by the same measurement, or by what is in that file for one of
the same processor, instructions, threads and onnxruntime. Weights are larger than caches, and the blocks take
turns. By default: Llama-3.2-1B's shapes. What was found is merged into benchmarks/results/rates.json.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
from dataclasses import asdict

from _provenance import here
from _results import Row, Table, option, record

from graphopt.plugins import registry
from graphopt.runtime import default_threads
from graphopt.targets import BlockProduct

LLAMA = ["2048x3072", "2048x2048", "2048x8192", "8192x2048", "2048x128256"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", action="append", metavar="KxN")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--times", type=int, default=3, help="how often, the least of which counts")
    parser.add_argument("--keep", action="store_true")
    option(parser, "rates")
    args = parser.parse_args()
    rates = importlib.import_module("graphopt_targets.cpu._rates")
    choice = importlib.import_module("graphopt_passes._rates")
    target = registry.targets()["cpu"]()
    machine = rates.relevant(target.fingerprint())
    print(f"{machine}\n\n| K x N | " + " | ".join(f"block {b}, ms" for b in choice.BLOCKS) + " | chosen |")
    print("|---" * (2 + len(choice.BLOCKS)) + "|")
    found, rows = [], list[Row]()
    for shape in args.shape or LLAMA:
        k, n = map(int, shape.split("x"))
        product = BlockProduct(bits=args.bits, k=k, n=n, level=4)
        runs = [rates.measured_seconds(product, choice.BLOCKS) for _ in range(args.times)]
        least = {str(block): min(run[block] for run in runs) for block in choice.BLOCKS}
        cells = " | ".join(f"{least[str(b)] * 1e3:.3f}" for b in choice.BLOCKS)
        print(f"| {k} x {n} | {cells} | {choice.chosen_block(least)} |", flush=True)
        times: Row = {f"block_{b}_ms": least[str(b)] * 1e3 for b in choice.BLOCKS}
        rows.append({"shape": f"{k} x {n}"} | times | {"chosen": choice.chosen_block(least)})
        entry = {"machine": machine, "product": asdict(product), "seconds": least}
        found.append(entry | {"date": f"{datetime.date.today()}"})
    cell, about = {"bits": args.bits, "threads": default_threads()}, here(rounds=args.times)
    record(args.json, [Table(name="seconds", cell=cell, key="shape", rows=rows, **about)])
    if args.keep:
        old = json.loads(rates.KNOWLEDGE.read_text(encoding="utf-8"))
        kept = [
            e
            for e in old
            if (e["machine"], e["product"]) not in [(f["machine"], f["product"]) for f in found]
        ]
        lines = ",\n  ".join(json.dumps(entry) for entry in [*kept, *found])
        rates.KNOWLEDGE.write_text(f"[\n  {lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
