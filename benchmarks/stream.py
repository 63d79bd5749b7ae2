"""What `graphopt targets profile` reads memory with, beside the fastest of the loops in C of _stream.c.

    python benchmarks/stream.py --threads 1 2

Both take turns, each over a buffer of several times the last-level cache. Printed is the best of a turn, the
median over turns, and the median ratio, which has to be within 5 % of 1.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from _roofline_worker import Stream as Loops
from roofline import library

from graphopt.machine import Stream
from graphopt.runtime import default_threads

SAMPLES = 4
"""Of three reads each: as many reads as there are loops."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, default_threads()}))
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--work", type=Path, default=Path("build/roofline"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    ours = Stream()
    for threads in args.threads:
        loops = Loops(library(args.work), threads)
        pairs = [
            (max(ours.sample(threads) for _ in range(SAMPLES)) / 1e9, max(loops.rates()))
            for _ in range(args.turns)
        ]
        first, second = (statistics.median(each) for each in zip(*pairs, strict=True))
        share = statistics.median(a / b for a, b in pairs)
        print(f"{threads} threads: {first:.1f} GB/s, loops in C {second:.1f} GB/s, ratio {share:.3f}")


if __name__ == "__main__":
    main()
