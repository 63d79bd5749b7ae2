"""The decode loop of a package: session options, length of the past, tokens a call, load time and memory.

    python benchmarks/loop.py build/llama-1b-int4 --int8 build/llama-1b-int4-kv8
    python benchmarks/loop.py build/llama-1b-int4 --only rows

Variants take turns in one process, a few tokens each, so that what slows the machine slows all; a table gives
the median and the best of the rounds, and the ratio of neighbours. Load time and memory are those of a fresh
process, beside the time to read the package's data file into memory (warm) and its size. What was found is
merged into benchmarks/results/loop.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _provenance import OVER_ROUNDS, here
from _results import Row, Table, option, record
from _rounds import table_of
from graphopt_targets.cpu.kernels import open_session

from graphopt.metrics import Estimate, median
from graphopt.runtime import Decoder, default_threads, session_options
from graphopt.runtime import open_session as stock_session

PIECE = 512
PROCESSES = 3
"""Of each session, whose load time and memory are those of the median process."""
Step = Callable[[], object]


@dataclass(frozen=True)
class Measured:
    """A table of results to be: the column that tells its rows apart, and what its intervals are of."""

    key: str
    rows: list[Row]
    interval: str | None
    cell: dict[str, bool | int | float | str] = field(default_factory=dict)


def opened(folder: Path, *settings: str) -> Any:
    """A session of our own options, but for some."""
    options = session_options()
    for setting in settings:
        match setting:
            case "pattern":
                options.enable_mem_pattern = True
            case "no arena":
                options.enable_cpu_mem_arena = False
            case "no spinning":
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            case "initializers outside":
                options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
            case "denormals as zero":
                options.add_session_config_entry("session.set_denormal_as_zero", "1")
            case "onnxruntime's kernels" | "prepacked":
                return stock_session(folder / "model.onnx", options=options)
    return open_session(folder / "model.onnx", options=options)


def filled(session: Any, tokens: np.ndarray, past: int, room: int) -> Decoder:
    decoder = Decoder(session, capacity=past + room)
    while decoder.length < past:
        decoder.append(tokens[decoder.length : min(past, decoder.length + PIECE)])
    return decoder


def pretending(session: Any, room: int) -> Decoder:
    """A decoder whose cache holds random numbers everywhere: what a call costs does not depend on them."""
    decoder = Decoder(session, capacity=room)
    rng = np.random.default_rng(0)
    for value in decoder._cache.values():
        numbers = rng.integers(-100, 100, value.shape()) / (1 if "int8" in value.data_type() else 50)
        value.update_inplace(numbers.astype(np.int8 if "int8" in value.data_type() else np.float32))
    return decoder


def greedy(decoder: Decoder) -> Step:
    last = np.ones(1, np.int64)

    def step() -> None:
        last[0] = decoder.append(last)[0, -1].argmax()

    return step


def through_genai(folder: Path, tokens: np.ndarray, room: int) -> Step:
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    session = {"intra_op_num_threads": default_threads()}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    model = og.Model(config)
    parameters = og.GeneratorParams(model)
    length = len(tokens) + room
    parameters.set_search_options(do_sample=False, max_length=length, min_length=length)
    generator = og.Generator(model, parameters)
    generator.append_tokens(tokens.astype(np.int32))
    generator.generate_next_token()
    return generator.generate_next_token


def in_turns(steps: Mapping[str, Step], rounds: int, count: int) -> dict[str, np.ndarray]:
    """Median seconds of `count` steps, by name and round."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name in steps if number % 2 else reversed(steps):
            seconds = []
            for _ in range(count):
                started = time.perf_counter()
                steps[name]()
                seconds.append(time.perf_counter() - started)
            found[name].append(float(np.median(seconds)))
    return {name: np.asarray(values[1:]) for name, values in found.items()}  # the first round warms up


def ratio(above: np.ndarray, below: np.ndarray) -> Estimate:
    return median(list(above / below))


def rates(seconds: np.ndarray) -> Row:
    return {"best_tok_s": float(1 / seconds.min()), "median_tok_s": float(1 / np.median(seconds))}


def by_options(args: argparse.Namespace, tokens: np.ndarray) -> Measured:
    room = (args.rounds + 1) * args.count + 2
    variants = ["", "", "onnxruntime's kernels", "pattern", "no spinning", "no arena", "denormals as zero"]
    steps: dict[str, Step] = {}
    for number, setting in enumerate(variants):
        name = setting or ("ours" if number == 0 else "ours again")
        steps[name] = greedy(filled(opened(args.package, setting), tokens, 256, room))
    steps["onnxruntime-genai"] = through_genai(args.package, tokens[:256], room)
    found = in_turns(steps, args.rounds, args.count)
    rows = [
        {"session": name} | rates(seconds) | {"ours_is": ratio(seconds, found["ours"])}
        for name, seconds in found.items()
    ]
    return Measured("session", rows, f"{OVER_ROUNDS}: how many times as fast ours is", {"past": 256})


def by_past(args: argparse.Namespace, _: np.ndarray) -> Measured:
    steps: dict[str, Step] = {}
    for name, folder in {"float32": args.package, "int8": args.int8}.items():
        if folder is None:
            continue
        decoder = pretending(opened(folder), 2056)
        for past in (32, 256, 2048):
            steps[f"{name}, {past}"] = at(decoder, past)
    found = in_turns(steps, args.rounds, args.count)
    rows = [
        {"cache": name} | rates(seconds) | {"left": ratio(found[f"{name.partition(',')[0]}, 32"], seconds)}
        for name, seconds in found.items()
    ]
    return Measured("cache", rows, f"{OVER_ROUNDS}: speed beside that after 32 tokens")


def at(decoder: Decoder, past: int, rows: int = 1) -> Step:
    """A call of some tokens after `past` others; what the cache holds there does not matter."""
    tokens = np.ones(rows, np.int64)

    def step() -> None:
        decoder.length = past
        decoder.append(tokens, keep=rows).argmax(-1)

    return step


def by_rows(args: argparse.Namespace, _: np.ndarray) -> Measured:
    decoder = pretending(opened(args.package), 272)
    found = in_turns({str(m): at(decoder, 256, m) for m in (1, 2, 3, 4, 5, 6, 8, 12, 16)}, args.rounds, 3)
    rows: list[Row] = [{"tokens": int(m), "ms": float(found[m].min() * 1e3)} for m in found]
    for row in rows[1:]:
        row["times"] = ratio(found[str(row["tokens"])], found["1"])
    kernels = os.environ.get("GRAPHOPT_KERNELS", "graphopt")
    return Measured("tokens", rows, f"{OVER_ROUNDS} to one token's time", {"past": 256, "kernels": kernels})


def by_session(args: argparse.Namespace, _: np.ndarray) -> Measured:
    variants = [(args.package, setting) for setting in ("", "onnxruntime's kernels", "no arena")]
    if args.prepacked is not None:
        variants.append((args.prepacked, "prepacked"))
    rows: list[Row] = []
    for folder, setting in variants:
        command = [sys.executable, __file__, str(args.package), "--child", setting, "--of", str(folder)]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            for _ in range(PROCESSES)
        ]
        middle = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
        rows.append({"session": setting or "ours"} | middle)
    return Measured("session", rows, None)


def child(plain: Path, folder: Path, setting: str) -> dict[str, float]:
    """Load time of `folder` over read time of `plain`; memory above an empty runtime's over `plain`'s."""
    import onnxruntime as ort

    from graphopt.evaluate._worker import _memory

    data = plain / "model.onnx.data"
    reads = []
    for _ in range(3):
        started = time.perf_counter()
        np.fromfile(data, np.uint8)
        reads.append(time.perf_counter() - started)
    ort.SessionOptions()
    empty = _memory()["rss"]
    started = time.perf_counter()
    session = opened(folder, setting)
    load = time.perf_counter() - started
    decoder = filled(session, np.ones(512, np.int64), 512, 32)
    for _ in range(32):
        decoder.append(np.ones(1, np.int64))
    memory = _memory()
    size = os.path.getsize(data) + sum(array.nbytes for array in decoder.cache().values())
    return {
        "load_reads": load / min(reads),
        "memory": (memory["rss"] - empty) / size,
        "peak": (memory["peak_rss"] - empty) / size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--int8", type=Path, help="the same model with an int8 cache")
    parser.add_argument("--only", choices=list(MEASURES))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--prepacked", type=Path, help="its copy by `graphopt prepack`")
    option(parser, "loop")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(child(args.package, args.of, args.child)))
        return
    tokens = np.random.default_rng(0).integers(1, 4000, 2048)
    for name, measure in MEASURES.items():
        if args.only in (None, name):
            found = measure(args, tokens)
            print(f"\n{table_of(found.rows)}", flush=True)
            cell = {"package": args.package.name} | found.cell
            about = here(rounds=PROCESSES if name == "session" else args.rounds)
            whose, key = found.interval, found.key
            one = Table(name=name, cell=cell, key=key, interval=whose, rows=found.rows, **about)
            record(args.json, [one])


MEASURES: dict[str, Callable[[argparse.Namespace, np.ndarray], Measured]] = {
    "options": by_options,
    "past": by_past,
    "rows": by_rows,
    "session": by_session,
}


if __name__ == "__main__":
    main()
