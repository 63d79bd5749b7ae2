"""How long MatMulNBits takes on this machine by block size, for one size of weight."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import to_proto
from graphopt.targets import BlockProduct

from .kernels import session_of

__all__ = ["KNOWLEDGE", "known_seconds", "measured_seconds", "relevant", "written_seconds"]

KNOWLEDGE = Path(__file__).with_name("knowledge.json")
"""What was measured before, on which machine: a list that `benchmarks/rates.py` adds to."""

_BYTES = 96 << 20  # of weights in a session: more than processors cache, so that they come from memory
_PROMPT = 64  # rows read at once: enough for the kernels of many rows, and soon measured
_SECONDS, _ROUNDS = 0.6, 3  # at least, of each measurement: the least of its times settles within them
_LARGEST = 16 << 20
"""Bytes of a weight that is measured. Of a larger one so many rows are: each takes as long as another, and a
table of 100,000 rows would take a gigabyte."""
_MACHINE = ("processor", "instructions", "threads", "onnxruntime", "kernels")
_OWN = "graphopt-"
"""What names of forms of our own kernels begin with: they say which instructions."""


def relevant(machine: Mapping[str, str]) -> dict[str, str | None]:
    """What of a target's fingerprint the speed of a product depends on.

    A form of our own kernels is the same whatever onnxruntime loads it and what else the processor can do.
    """
    found = {key: machine.get(key) for key in _MACHINE}
    if (machine.get("kernels") or "").startswith(_OWN):
        found |= {"onnxruntime": None, "instructions": None}
    return found


def known_seconds(machine: Mapping[str, str], product: BlockProduct) -> dict[int, float] | None:
    """What the knowledge file says of a product on a machine of this fingerprint, if it says anything."""
    here = relevant(machine)
    for entry in json.loads(KNOWLEDGE.read_text(encoding="utf-8")):
        if relevant(entry["machine"]) == here and entry["product"] == asdict(product):
            return {int(block): seconds for block, seconds in entry["seconds"].items()}
    return None


def measured_seconds(product: BlockProduct, blocks: Sequence[int]) -> dict[int, float]:
    """Seconds by block size that [k, n] takes to write a token and to read one of a prompt, both together.

    So one row from memory, and one of many that are multiplied at a time, each the least of runs in turn.
    """
    part, share = _part(product)
    written = written_seconds(product, blocks)
    read = _least(part, blocks, rows=_PROMPT, copies=1)
    return {block: float(f"{written[block] + read[block] * share:.3g}") for block in blocks}


def written_seconds(product: BlockProduct, blocks: Sequence[int]) -> dict[int, float]:
    """Seconds by block size that [k, n] takes to write a token: one row, the weight from memory."""
    part, share = _part(product)
    copies = max(1, _BYTES // (part.k * part.n * part.bits // 8))
    written = _least(part, blocks, rows=1, copies=copies)
    return {block: seconds * share for block, seconds in written.items()}


def _part(product: BlockProduct) -> tuple[BlockProduct, float]:
    """What is measured of a product, and how much longer all of it takes."""
    rows = min(product.n, max(1, _LARGEST * 8 // (product.k * product.bits)))
    return replace(product, n=rows), product.n / rows


def _least(product: BlockProduct, blocks: Sequence[int], *, rows: int, copies: int) -> dict[int, float]:
    """Seconds a row and weight by block size, where so many rows meet so many weights."""
    sessions = {block: session_of(to_proto(_products(product, block, rows, copies))) for block in blocks}
    x = {"x": np.random.default_rng(0).standard_normal((rows, product.k), np.float32)}
    least = dict.fromkeys(blocks, float("inf"))
    rounds, begun = 0, time.perf_counter()
    while rounds < _ROUNDS or time.perf_counter() - begun < _SECONDS:
        rounds += 1
        for block, session in sessions.items():
            started = time.perf_counter()
            session.run(["y"], x)
            least[block] = min(least[block], (time.perf_counter() - started) / (copies * rows))
    return least


def _products(product: BlockProduct, block: int, rows: int, copies: int) -> ir.Model:
    """x float32[rows, k] times as many weights [k, n], the results added up."""
    k, n, bits = product.k, product.n, product.bits
    x = ir.Value(name="x", shape=ir.Shape([rows, k]), type=ir.TensorType(ir.DataType.FLOAT))
    tape = ir.tape.Tape()
    rng = np.random.default_rng(0)  # equal weights are read faster than memory gives them
    attributes: dict[str, Any] = {"K": k, "N": n, "bits": bits, "block_size": block}
    results: Sequence[ir.Value] = [
        tape.op(
            "MatMulNBits",
            [
                x,
                tape.initializer(
                    ir.tensor(rng.integers(0, 256, (n, k // block, block * bits // 8), np.uint8)), f"w{i}"
                ),
                tape.initializer(ir.tensor(np.ones((n, k // block), np.float32)), f"scales{i}"),
            ],
            {**attributes, "accuracy_level": product.level},
            domain="com.microsoft",
        )
        for i in range(copies)
    ]
    y = tape.op("Sum", results)
    y.name, y.shape, y.type = "y", ir.Shape([rows, n]), ir.TensorType(ir.DataType.FLOAT)
    imports = {"": 23, "com.microsoft": 1}
    graph = ir.Graph(
        [x], [y], nodes=tape.nodes, initializers=tape.initializers, opset_imports=imports, name="g"
    )
    return ir.Model(graph, ir_version=10)
