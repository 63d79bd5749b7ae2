"""A net in this process, which calls it when asked: milliseconds of calls, printed as JSON; or its outputs.

    python benchmarks/_vision_worker.py ENGINE MODEL INPUTS.npz
    python benchmarks/_vision_worker.py ENGINE MODEL INPUTS.npz --outputs OUTPUTS.npy

Engines: package (graphopt's), ort (an .onnx file), openvino (an .xml file). Once it is ready it prints a
line, and for each line `THREADS SECONDS` that it reads another. Pictures are called one by one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Engine = Callable[[Array], Array]
_FEWEST = 3
"""Calls that a turn has at least."""


def package(model: Path, threads: int) -> Engine:
    from graphopt import Package

    ready = Package.load(model).ready(threads=threads)
    return lambda x: next(iter(ready({"x": x}).values()))


def ort(model: Path, threads: int) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]  # type: ignore[no-any-return]


def openvino(model: Path, threads: int) -> Engine:
    import openvino

    wanted = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(model), "CPU", wanted)
    request = compiled.create_infer_request()
    return lambda x: request.infer({0: x})[0]  # type: ignore[no-any-return]


ENGINES: dict[str, Callable[[Path, int], Engine]] = {f.__name__: f for f in (package, ort, openvino)}
LIBRARIES = {
    "package": ("graphopt", "onnxruntime"),
    "ort": ("onnxruntime",),
    "openvino": ("openvino", "nncf"),
}


def turn(engine: Engine, x: Array, seconds: float) -> list[float]:
    """Milliseconds of each call after one that does not count."""
    engine(x)
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < _FEWEST or time.perf_counter() < end:
        begun = time.perf_counter()
        engine(x)
        found.append((time.perf_counter() - begun) * 1e3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("model", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--outputs", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=(1,))
    args = parser.parse_args()
    with np.load(args.inputs) as arrays:
        x = arrays["x"]
    engines = {threads: ENGINES[args.engine](args.model, threads) for threads in args.threads}
    if args.outputs:
        (engine,) = engines.values()
        np.save(args.outputs, np.concatenate([engine(x[at : at + 1]).copy() for at in range(len(x))]))
        return
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES[args.engine]}
    print(json.dumps({"versions": versions}), flush=True)
    for line in sys.stdin:
        threads, seconds = line.split()
        begun = time.process_time()
        times = turn(engines[int(threads)], x[:1], float(seconds))
        print(json.dumps({"ms": times, "cpu": time.process_time() - begun}), flush=True)


if __name__ == "__main__":
    main()
