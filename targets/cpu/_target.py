"""The CPU target: what it runs on, how graphs are lowered for it, and how its sessions are opened."""

from __future__ import annotations

import os
import platform
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.recipes import Recipe, Step
from graphopt.runtime import cgroup_quota, default_threads
from graphopt.targets import BlockProduct, LoadedNode, Target

from ._cache import shares_cache
from ._calls import call_seconds
from ._capabilities import CpuCapabilities
from ._loaded import loaded_nodes
from ._rates import known_seconds, measured_seconds, written_seconds
from .kernels import kernels_name, open_session

_LOWERING = (
    "last-token-head",
    "lower-attention",
    "merge-heads",
    "lower-causal-conv",
    "lower-linear-attention",
    "lower-skip-norm",
    "lower-quick-gelu",
    "lower-mish",
)
# Instructions by which onnxruntime's kernels and our own choose among themselves, as /proc/cpuinfo has them.
_ISA = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "f16c",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)


class CpuTarget(Target):
    """onnxruntime on the processor: GroupQueryAttention, skip norms and MatMulNBits where graphs allow."""

    name: ClassVar[str] = "cpu"

    def capabilities(self) -> CpuCapabilities:
        return CpuCapabilities()

    def lowering(self, recipe: Recipe) -> tuple[Step, ...]:
        return tuple(Step(name) for name in _LOWERING)

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        return open_session(path, threads=threads)

    def loaded_nodes(self, path: Path) -> Sequence[LoadedNode]:
        return loaded_nodes(str(path))

    def shares_cache(self, model: ir.Model, states: Container[str]) -> bool:
        return shares_cache(model, states)

    def product_seconds(self, product: BlockProduct, blocks: Sequence[int]) -> Mapping[int, float]:
        known = known_seconds(self.fingerprint(), product)
        if known is not None and known.keys() >= set(blocks):
            return {block: known[block] for block in blocks}
        return measured_seconds(product, blocks)

    def token_seconds(self, product: BlockProduct, blocks: Sequence[int]) -> Mapping[int, float]:
        return written_seconds(product, blocks)

    def call_seconds(self, model: ir.Model, feeds: Mapping[str, np.ndarray]) -> float:
        return call_seconds(model, feeds)

    def fingerprint(self) -> dict[str, str]:
        import onnxruntime

        processor, flags = _processor()
        quota = cgroup_quota()
        return {
            "processor": processor,
            "instructions": " ".join(f for f in _ISA if f in flags),
            "cores": str(os.cpu_count()),
            "threads": str(default_threads()),
            "quota": "none" if quota is None else f"{quota:g}",
            "onnxruntime": onnxruntime.__version__,
            "kernels": kernels_name(),
        }


def _processor(info: Path = Path("/proc/cpuinfo")) -> tuple[str, frozenset[str]]:
    try:
        lines = info.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields: Mapping[str, str] = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value
    }
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", platform.machine()), frozenset(flags.split())
