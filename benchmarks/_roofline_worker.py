"""One package in this process: what a token reads and computes, what the machine can, how long it took.

    python benchmarks/_roofline_worker.py PACKAGE STREAM.so --prompt 256 --new 64 --threads 2

Reads of memory take turns with pieces of decoding that read as much: the speed of a shared memory changes
within a second. The profile by operator comes from a second session, after the first has been measured.
Printed as JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import itertools
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from _rounds import cache
from graphopt_targets.cpu.kernels import open_session

from graphopt.runtime import Decoder, session_options

TURNS = 5
"""At least."""
SETTLE = 0.2
"""Seconds after which the runtime's threads have stopped spinning."""
VARIANTS = tuple(itertools.product((1, 2, 4), (0, 16, 32, 64)))


class Stream:
    """Reads of a buffer of at least eight times the last-level cache, by whichever variant is fastest."""

    def __init__(self, library: Path, threads: int) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.stream_allocate.restype = ctypes.c_void_p
        self._library.stream_allocate.argtypes = [ctypes.c_size_t, ctypes.c_int]
        self._library.stream_read.restype = ctypes.c_uint64
        self._library.stream_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3]
        self._bytes = max(8 * cache(), 1 << 29)
        self._threads = threads
        self._buffer = self._library.stream_allocate(self._bytes, threads)

    @property
    def bytes_a_turn(self) -> int:
        return len(VARIANTS) * self._bytes

    def rates(self) -> list[float]:
        """GB/s of each variant, once."""
        time.sleep(SETTLE)
        found = []
        for streams, ahead in VARIANTS:
            begun = time.perf_counter()
            self._library.stream_read(self._buffer, self._bytes, self._threads, streams, ahead)
            found.append(self._bytes / (time.perf_counter() - begun) / 1e9)
        return found


def work(graph: onnx.GraphProto, prompt: int, past: int) -> dict[str, dict[str, float]]:
    """Bytes and operations of one token after `past` ones, and operations of a prompt, by kind of node.

    A product reads all of its weights, a lookup one row, attention all of its cache. Activations are not
    counted: they stay in the processor's cache. Of a prompt only the last token's logits are computed.
    """
    (logits,) = (o.type.tensor_type.shape.dim[-1].dim_value for o in graph.output if o.name == "logits")
    sizes = {t.name: _bytes(t) for t in graph.initializer}
    found: dict[str, dict[str, float]] = defaultdict(
        lambda: dict.fromkeys(("nodes", "bytes", "flops", "prompt_flops"), 0.0)
    )
    caches = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input}
    widths = {i.name: _WIDTH[i.type.tensor_type.elem_type] for i in graph.input}
    for node in graph.node:
        about = {a.name: a for a in node.attribute}
        read = sum(sizes.get(name, 0) for name in node.input)
        flops, times = 0.0, float(prompt)
        if node.op_type == "MatMulNBits":
            flops = 2 * about["K"].i * about["N"].i
            times = 1 if about["N"].i == logits else prompt
        elif node.op_type in ("MatMul", "Gemm"):
            (weight,) = [t for t in graph.initializer if t.name == node.input[1]] or [None]
            flops = 2 * float(np.prod(weight.dims)) if weight else 0
        elif node.op_type in ("Gather", "GatherBlockQuantized", "RotaryEmbedding"):
            read = 0
        elif node.op_type == "GroupQueryAttention":
            keys, values = node.input[3], node.input[4]
            _, heads, _, size = caches[keys]
            read = past * heads * size * (widths[keys] + widths[values])
            flops = 4 * about["num_heads"].i * size * past
            times = prompt * prompt / 2 / past
        name = kind(node.op_type, [about[k].i for k in ("K", "N") if k in about])
        one = found[name]
        one["nodes"] += 1
        one["bytes"] += read
        one["flops"] += flops
        one["prompt_flops"] += flops * times
    return found


_WIDTH = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2}


def _bytes(tensor: onnx.TensorProto) -> float:
    return float(np.prod(tensor.dims)) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def kind(op: str, sizes: list[int]) -> str:
    """The operator and, of products in blocks, K x N."""
    return f"{op} {sizes[0]} x {sizes[1]}" if len(sizes) == 2 else op


def opened(package: Path, threads: int, *, profile: Path | None = None) -> Any:
    options = session_options(threads=threads)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return open_session(package / "model.onnx", options=options)


def profiled(
    package: Path, threads: int, prompt: int, new: int, kinds: dict[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds by kind of node: of one prompt, and of one of `new` tokens."""
    session = opened(package, threads, profile=package.parent / "profile")
    decoder = Decoder(session, capacity=prompt + new + 1)
    tokens = np.random.default_rng(0).integers(1, 4000, prompt)
    for _ in range(2):
        decoder.reset()
        decoder.append(tokens)
    for _ in range(new):
        decoder.append(tokens[:1])
    file = Path(session.end_profiling())
    events = json.loads(file.read_text())
    file.unlink()
    runs = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == "model_run")
    assert len(runs) == new + 2
    times = [defaultdict(float) for _ in runs]
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            at = next(i for i, (start, end) in enumerate(runs) if start <= event["ts"] <= end)
            name = event["name"].removesuffix("_kernel_time")
            times[at][kinds.get(name, event["args"]["op_name"])] += event["dur"] / 1e3
    steps = times[2:]
    return dict(times[1]), {k: float(np.median([s[k] for s in steps])) for k in steps[0]}


def peaks(threads: int, rows: int) -> dict[str, float]:
    """GFLOP/s of the machine's best products [rows, 2048] x [2048, 8192]: fp32, and 8-bit integers."""
    k, n = 2048, 8192
    rng = np.random.default_rng(0)
    found = {}
    for name, op, x, w, out in (
        ("fp32", "MatMul", np.float32, np.float32, onnx.TensorProto.FLOAT),
        ("int8", "MatMulInteger", np.uint8, np.int8, onnx.TensorProto.INT32),
    ):
        weight = onnx.numpy_helper.from_array(rng.integers(-90, 90, (k, n)).astype(w), "w")
        source = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(x))
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(op, ["x", "w"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info("x", source, [rows, k])],
            [onnx.helper.make_tensor_value_info("y", out, [rows, n])],
            [weight],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
        session = ort.InferenceSession(model.SerializeToString(), session_options(threads=threads))
        feeds = {"x": rng.integers(0, 200, (rows, k)).astype(x)}
        times = []
        for _ in range(12):
            begun = time.perf_counter()
            session.run(None, feeds)
            times.append(time.perf_counter() - begun)
        found[name] = 2 * rows * k * n / min(times) / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("package", type=Path)
    parser.add_argument("stream", type=Path)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    graph = onnx.load(args.package / "model.onnx", load_external_data=False).graph
    stream = Stream(args.stream, args.threads)
    works = work(graph, args.prompt, args.prompt + args.new // 2)
    each = max(1, round(stream.bytes_a_turn / sum(one["bytes"] for one in works.values())))
    capacity = args.prompt + args.new + 2 * (TURNS + 1) * (each + 1)
    decoder = Decoder(opened(args.package, args.threads), capacity=capacity)
    tokens = np.random.default_rng(0).integers(1, 4000, args.prompt)
    prefills, turns, all_rates, steps = [], [], [], []
    for _ in range(3):
        decoder.reset()
        begun = time.perf_counter()
        decoder.append(tokens)
        prefills.append(time.perf_counter() - begun)
    while len(steps) < args.new or len(turns) < TURNS:
        rates = stream.rates()
        decoder.append(tokens[:1])  # wakes the threads, and is not counted
        taken = []
        for _ in range(each):
            begun = time.perf_counter()
            decoder.append(tokens[:1])
            taken.append(1e3 * (time.perf_counter() - begun))
        turns.append({"read": max(rates), "token_ms": min(taken)})
        all_rates.append(rates)
        steps += taken
    del decoder
    kinds = {
        node.name: kind(node.op_type, [a.i for k in ("K", "N") for a in node.attribute if a.name == k])
        for node in graph.node
    }
    prompt_ms, token_ms = profiled(args.package, args.threads, args.prompt, args.new, kinds)
    result = {
        "turns": turns,
        "read_median": float(np.median(all_rates, axis=0).max()),
        "read_fastest": float(np.max(all_rates)),
        "token_ms": float(np.median(steps)),
        "prompt_ms": float(np.median(prefills[1:])) * 1e3,
        "peaks": peaks(args.threads, args.prompt),
        "work": works,
        "token_ms_by_kind": token_ms,
        "prompt_ms_by_kind": prompt_ms,
        "versions": {name: importlib.metadata.version(name) for name in ("graphopt", "onnxruntime")},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
