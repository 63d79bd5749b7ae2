"""One package in this process: what several situations take, probes of memory and of the processor's pulse in
turns with them.

    python benchmarks/_predict_worker.py PACKAGE --threads 2 1x256 4x64

A situation is texts x tokens of each one's prompt. Printed as a line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

import graphopt
from graphopt.machine import Pulse, Stream
from graphopt.plugins import registry
from graphopt.runtime import Decoder

SETTLE = 0.1
"""Seconds after which the runtime's threads have stopped spinning."""
TURNS, ENOUGH, MOST = 8, 0.15, 48
"""Pieces of decoding between which memory is probed, seconds of each at least, and steps at most. A piece has
the median of its steps, a token the mean of pieces, and so have probes: a processor is often at one of two
speeds, and medians of two things that go with each other may lie on either side.
"""
LONG = 1.0
"""Seconds of a prompt that is read once, after it was read once to warm up; a shorter one several times."""


def timed(decoder: Decoder, tokens: np.ndarray) -> float:
    begun = time.perf_counter()
    decoder.append(tokens)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("package", type=Path)
    parser.add_argument("situation", nargs="+")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    session = graphopt.Package.load(args.package).session(threads=args.threads)
    stream, pulse = Stream(), Pulse(registry.targets()["cpu"]())
    for situation in args.situation:
        batch, prompt = map(int, situation.split("x"))
        decoder = Decoder(session, batch=batch, capacity=prompt + MOST + 2)
        tokens = np.random.default_rng(0).integers(1, 4000, (batch, prompt))
        firsts = [timed(decoder, tokens)]
        timed(decoder, tokens[:, :1])
        before_first = []
        while len(firsts) < 2 or (sum(firsts[1:]) < LONG / 2 and len(firsts) < 12):
            time.sleep(SETTLE)
            before_first.append(stream.sample(args.threads))
            decoder.reset()
            firsts.append(timed(decoder, tokens))
        steps, reads, pulses, count = list[float](), list[float](), list[float](), 0
        while len(reads) < TURNS:
            time.sleep(SETTLE)
            reads.append(stream.sample(args.threads))
            pulses.append(pulse.sample(args.threads))
            time.sleep(SETTLE)
            decoder.rewind(prompt)
            timed(decoder, tokens[:, :1])  # wakes the threads, and fills the caches again
            some = list[float]()
            while len(some) < 4 or (sum(some) < ENOUGH and len(some) < MOST):
                some.append(timed(decoder, tokens[:, :1]))
            steps.append(statistics.median(some))
            count += len(some)
        time.sleep(SETTLE)
        reads.append(stream.sample(args.threads))
        pulses.append(pulse.sample(args.threads))
        found = {
            "batch": batch,
            "prompt": prompt,
            "new": 1 + count // TURNS,
            "threads": args.threads,
            "ttft": statistics.median(firsts[1:]),
            "tpot": statistics.mean(steps),
            "bandwidth": statistics.harmonic_mean(reads),
            "pulse": statistics.mean(pulses),
            "bandwidth_prompt": statistics.median(before_first),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
