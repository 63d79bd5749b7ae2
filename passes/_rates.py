"""Which block size MatMulNBits is fastest with on this machine, for one row and one size of weight."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import to_proto
from graphopt.runtime import session_options

__all__ = ["BLOCKS", "KNOWLEDGE", "chosen_block", "known_seconds", "measured_seconds", "relevant"]

BLOCKS = (128, 256)
"""What is weighed: smaller blocks are slower wherever they were measured."""

KNOWLEDGE = Path(__file__).with_name("knowledge.json")
"""What was measured before, on which machine: a list that `benchmarks/rates.py` adds to."""

_WORTH = 1.05
_BYTES = 96 << 20  # of weights in a session: more than processors cache, so that they come from memory
_ROUNDS = 25
_MACHINE = ("processor", "instructions", "threads", "onnxruntime")


def relevant(machine: Mapping[str, str]) -> dict[str, str | None]:
    """What of a target's fingerprint the speed of a product depends on."""
    return {key: machine.get(key) for key in _MACHINE}


def chosen_block(seconds: Mapping[str, float]) -> int:
    """The fastest block, from seconds by block size; a larger one only where it pays for what it loses."""
    best = min(BLOCKS)
    for block in BLOCKS:
        if seconds[str(best)] / seconds[str(block)] >= _WORTH:
            best = block
    return best


def known_seconds(machine: Mapping[str, str], what: Mapping[str, int]) -> dict[str, float] | None:
    """What the knowledge file says of a product on a machine of this fingerprint, if it says anything."""
    here = relevant(machine)
    for entry in json.loads(KNOWLEDGE.read_text(encoding="utf-8")):
        if entry["machine"] == here and entry["product"] == dict(what):
            return dict(entry["seconds"])
    return None


def measured_seconds(what: Mapping[str, int]) -> dict[str, float]:
    """Seconds by block size of one row times [k, n]: the least of many runs in turn.

    `what` is {"bits", "k", "n", "level"}, the last being the accuracy level.
    """
    import onnxruntime as ort

    sessions = {}
    for block in BLOCKS:
        copies = max(1, _BYTES // (what["k"] * what["n"] * what["bits"] // 8))
        proto = to_proto(_products(what, block, copies)).SerializeToString()
        sessions[block] = copies, ort.InferenceSession(proto, session_options())
    x = {"x": np.ones((1, what["k"]), np.float32)}
    least = dict.fromkeys(map(str, BLOCKS), float("inf"))
    for _ in range(_ROUNDS):
        for block, (copies, session) in sessions.items():
            started = time.perf_counter()
            session.run(["y"], x)
            least[str(block)] = min(least[str(block)], (time.perf_counter() - started) / copies)
    return {block: float(f"{seconds:.3g}") for block, seconds in least.items()}


def _products(what: Mapping[str, int], block: int, copies: int) -> ir.Model:
    """x float32[1, k] times as many weights [k, n], the results added up."""
    k, n, bits = what["k"], what["n"], what["bits"]
    x = ir.Value(name="x", shape=ir.Shape([1, k]), type=ir.TensorType(ir.DataType.FLOAT))
    tape = ir.tape.Tape()
    attributes: dict[str, Any] = {"K": k, "N": n, "bits": bits, "block_size": block}
    results: Sequence[ir.Value] = [
        tape.op(
            "MatMulNBits",
            [
                x,
                tape.initializer(ir.tensor(np.zeros((n, k // block, block * bits // 8), np.uint8)), f"w{i}"),
                tape.initializer(ir.tensor(np.ones((n, k // block), np.float32)), f"scales{i}"),
            ],
            {**attributes, "accuracy_level": what["level"]},
            domain="com.microsoft",
        )
        for i in range(copies)
    ]
    y = tape.op("Sum", results)
    y.name, y.shape, y.type = "y", ir.Shape([1, n]), ir.TensorType(ir.DataType.FLOAT)
    imports = {"": 23, "com.microsoft": 1}
    graph = ir.Graph(
        [x], [y], nodes=tape.nodes, initializers=tape.initializers, opset_imports=imports, name="g"
    )
    return ir.Model(graph, ir_version=10)
