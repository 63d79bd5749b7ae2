"""Products and attentions of sizes that no profile has, each timed in a session of its own: cheap points.

    python benchmarks/_predict_cheap.py --count 200 --seed 0

Sizes, forms, rows, pasts and threads are drawn at random. As in the profile, products of few rows meet
many weights in turn, those of many rows two of them again and again, and attention the caches of several
layers. Printed as a line of JSON for each.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.machine import Pulse, Stream
from graphopt.machine._decoders import attention
from graphopt.machine._graphs import Product, Weights, products
from graphopt.plugins import registry
from graphopt.runtime import Decoder, default_threads

WEIGHTS = 96 << 20
MOST = 96
"""Weights of a graph: small ones then come from a cache, as those of a small model do."""
LAYERS = 8
SETTLE = 0.06
FORMS = (
    (4, 128, False),
    (4, 32, False),
    (4, 64, True),
    (8, 32, False),
    (8, 128, False),
    (2, 64, False),
    (32, 0, False),
)
CHANCE = (0.3, 0.15, 0.1, 0.15, 0.1, 0.1, 0.1)
HEADS = ((9, 3, 64), (16, 8, 64), (32, 8, 64), (8, 2, 32), (24, 8, 128), (12, 4, 64))
REPEATS = 5


def timed(call: Callable[[], Any]) -> float:
    """The median of a few calls after one that warms up."""
    call()
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def product(rng: np.random.Generator, threads: int) -> tuple[dict[str, Any], Product, int, int]:
    bits, block, zeros = FORMS[rng.choice(len(FORMS), p=CHANCE)]
    k, n = (64 * round(2 ** rng.uniform(2.2, 7)) for _ in range(2))
    most = (1 << 24) if bits == 32 else (1 << 25)
    if k * n > most:
        n = most // k // 64 * 64
    rows = int(rng.choice([1, 1, 1, 2, 3, 5, 16, 24, 48, 96, 200, 384]))
    one = Product(bits, block, zeros, k, n)
    copies = min(max(2, WEIGHTS // one.bytes), MOST) if rows <= 8 else 2
    said = {"kind": "product", "bits": bits, "block": block, "zeros": zeros, "k": k, "n": n, "rows": rows}
    return said | {"bytes": one.bytes, "copies": copies, "threads": threads}, one, rows, copies


def points(count: int, seed: int) -> Iterator[dict[str, Any]]:
    target, stream = registry.targets()["cpu"](), Stream()
    pulse = Pulse(target)
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        weights = Weights(Path(folder), WEIGHTS)
        for number in range(count):
            threads = int(rng.integers(1, default_threads() + 1))
            if number % 4 < 3:
                said, one, rows, copies = product(rng, threads)
                path = products(weights, one, copies).write(Path(folder) / "one.onnx")
                feeds = {"x": rng.standard_normal((rows, one.k), np.float32)}
                call = functools.partial(target.session(path, threads=threads).run, ["sum"], feeds)
                before = pulse.sample(threads), stream.sample(threads)
                time.sleep(SETTLE)
                seconds = timed(call) / copies
            else:
                heads, kv_heads, size = HEADS[rng.integers(len(HEADS))]
                bits = int(rng.choice([32, 32, 8]))
                past, rows = int(2 ** rng.uniform(4, 11.3)), 1
                if rng.random() < 0.3:
                    past, rows = 0, int(2 ** rng.uniform(4, 9))
                said = {"kind": "attention", "heads": heads, "kv_heads": kv_heads, "head_size": size}
                said |= {"cache_bits": bits, "past": past, "rows": rows, "threads": threads, "copies": LAYERS}
                before, seconds = attended(target, weights, stream, pulse, said)
            pulses, reads = zip(before, (pulse.sample(threads), stream.sample(threads)), strict=True)
            probes = {"bandwidth": statistics.mean(reads), "pulse": statistics.mean(pulses)}
            yield said | {"seconds": seconds} | probes


def attended(
    target: Any, weights: Weights, stream: Stream, pulse: Pulse, said: dict[str, Any]
) -> tuple[tuple[float, float], float]:
    """Of several layers, less a model of one, shared by the layers between them."""
    threads, past, rows = said["threads"], said["past"], said["rows"]
    sides = []
    for layers in (1, 1 + LAYERS):
        length = past + rows + 2
        kind = said["heads"], said["kv_heads"], said["head_size"], said["cache_bits"]
        made = attention(weights, *kind, layers, length)
        path = made.write(weights.folder / f"attention{layers}.onnx")
        decoder = Decoder(target.session(path, threads=threads), capacity=length, states=made.states())
        tokens = np.ones((1, rows), np.int64)
        if past:
            decoder.append(np.ones((1, past), np.int64))

        def call(decoder: Decoder = decoder, tokens: np.ndarray = tokens) -> None:
            decoder.rewind(past)
            decoder.append(tokens)

        before = pulse.sample(threads), stream.sample(threads)
        time.sleep(SETTLE)
        sides.append(timed(call))
    return before, (sides[1] - sides[0]) / LAYERS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for point in points(args.count, args.seed):
        print(json.dumps(point), flush=True)


if __name__ == "__main__":
    main()
