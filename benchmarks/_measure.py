"""What every decode worker measures, whatever engine it drives: load, prefill, steps, memory; as JSON.

Needs numpy and nothing else, because peers live in environments of their own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Tokens = np.ndarray[Any, np.dtype[np.int64]]


class Engine(Protocol):
    """A model that was loaded. Both calls return the likeliest next tokens int64[batch]."""

    def start(self, prompt: Tokens) -> Tokens:
        """Forget what was, and read int64[batch, S]."""

    def step(self, tokens: Tokens) -> Tokens:
        """Read one more token of each text, int64[batch]."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: what the engine chooses")
    return parser.parse_args()


def measure(load: Callable[[argparse.Namespace], Engine], *libraries: str) -> None:
    """Load, warm up with the prompt and two steps, then measure the prompt and `--new` greedy steps."""
    args = arguments()
    prompt = np.random.default_rng(0).integers(1, 4000, (args.batch, args.prompt))
    begun = time.perf_counter()
    engine = load(args)
    loaded = time.perf_counter() - begun
    tokens = engine.start(prompt)
    for _ in range(2):
        tokens = engine.step(tokens)

    begun = time.perf_counter()
    tokens = engine.start(prompt)
    first = time.perf_counter() - begun
    steps = []
    for _ in range(args.new):
        begun = time.perf_counter()
        tokens = engine.step(tokens)
        steps.append(time.perf_counter() - begun)
    result = {
        "load_s": loaded,
        "prefill": args.batch * args.prompt / first,
        "decode": args.batch * len(steps) / sum(steps),
        "p50_ms": float(np.percentile(steps, 50)) * 1e3,
        "p90_ms": float(np.percentile(steps, 90)) * 1e3,
        "peak_rss_mb": peak_memory(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
    }
    print(json.dumps(result))


def peak_memory() -> float:
    """Most resident memory of this process so far, MiB. Not getrusage's, which begins with its parent's."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024
