"""One encoder in this process: milliseconds a call, printed as JSON; or what it makes of given inputs.

    python benchmarks/_encoder_worker.py ENGINE MODEL --batch 32 --tokens 128 [--ragged]
    python benchmarks/_encoder_worker.py ENGINE MODEL --inputs TEXTS.npz --outputs STATES.npy

Engines: torch, compile (a checkpoint), ort (a package or an .onnx file), openvino (an .xml file).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _measure import peak_memory

Feeds = Mapping[str, np.ndarray[Any, np.dtype[np.int64]]]
Engine = Callable[[Feeds], np.ndarray[Any, Any]]
LIBRARIES = {
    "torch": ("torch", "transformers"),
    "compile": ("torch", "transformers"),
    "ort": ("onnxruntime",),
    "openvino": ("openvino", "nncf"),
}


def torch_engine(model: Path, threads: int, *, compiled: bool = False) -> Engine:
    import torch
    from transformers import AutoModel

    torch.set_num_threads(threads)
    module = AutoModel.from_pretrained(model, dtype=torch.float32).eval()
    call = torch.compile(module) if compiled else module

    def run(feeds: Feeds) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            found: np.ndarray[Any, Any] = call(
                **{name: torch.from_numpy(array) for name, array in feeds.items()}
            ).last_hidden_state.numpy()
            return found

    return run


def ort_engine(model: Path, threads: int) -> Engine:
    from graphopt import Package
    from graphopt.runtime import open_session

    if model.is_dir():
        package = Package.load(model)
        ready = package.ready(threads=threads)
        wanted = {port.name for port in package.manifest.graphs["model"].inputs}
        return lambda feeds: next(iter(ready({k: v for k, v in feeds.items() if k in wanted}).values()))
    session = open_session(model, threads=threads)
    names = {spec.name for spec in session.get_inputs()}

    def run(feeds: Feeds) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = session.run(None, {k: v for k, v in feeds.items() if k in names})[0]
        return found

    return run


def openvino_engine(model: Path, threads: int) -> Engine:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(str(model), "CPU", {"INFERENCE_NUM_THREADS": threads})
    names = {port.any_name for port in compiled.inputs}

    def run(feeds: Feeds) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = compiled({k: v for k, v in feeds.items() if k in names})[0]
        return found

    return run


ENGINES: dict[str, Callable[[Path, int], Engine]] = {
    "torch": torch_engine,
    "compile": lambda model, threads: torch_engine(model, threads, compiled=True),
    "ort": ort_engine,
    "openvino": openvino_engine,
}


def inputs(batch: int, tokens: int, ragged: bool) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Texts of `tokens` tokens, or padded on the right to it from a quarter of it up."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(max(1, tokens // 4), tokens + 1, batch) if ragged else np.full(batch, tokens)
    lengths[0] = tokens
    mask = (np.arange(tokens) < lengths[:, None]).astype(np.int64)
    ids = rng.integers(1000, 20000, (batch, tokens)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def timed(engine: Engine, feeds: Feeds, seconds: float) -> list[float]:
    """Milliseconds of each call, after two that do not count; at least five of them."""
    for _ in range(2):
        engine(feeds)
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < 5 or time.perf_counter() < end:
        begun = time.perf_counter()
        engine(feeds)
        found.append((time.perf_counter() - begun) * 1e3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("model", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--ragged", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--outputs", type=Path)
    args = parser.parse_args()
    begun = time.perf_counter()
    engine = ENGINES[args.engine](args.model, args.threads)
    loaded = time.perf_counter() - begun
    if args.inputs:
        with np.load(args.inputs) as feeds:
            np.save(args.outputs, engine(dict(feeds)))
        return
    times = timed(engine, inputs(args.batch, args.tokens, args.ragged), args.seconds)
    result = {
        "load_s": loaded,
        "ms": float(np.median(times)),
        "calls": 1e3 / float(np.median(times)),
        "peak_rss_mb": peak_memory(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES[args.engine]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
