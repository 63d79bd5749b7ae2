"""The CPU target: onnxruntime's CPU execution provider."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.ir import infer_types, save_model
from graphopt.kernels import kernels_name
from graphopt.recipes import Recipe, Step
from graphopt.runtime import cgroup_quota, default_threads, open_session, session_options
from graphopt.targets import CompileReport, Target, Unsupported

from ._kernels import CpuCapabilities

_LOWERING = (
    "last-token-head",
    "lower-attention",
    "merge-heads",
    "lower-causal-conv",
    "lower-linear-attention",
    "lower-skip-norm",
    "lower-quick-gelu",
)
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

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        infer_types(model)
        refused = self.capabilities().unsupported(model)
        if refused:
            raise _refusal(refused)
        save_model(model, path)
        started = time.perf_counter()
        self.session(path)
        load_seconds = time.perf_counter() - started
        data = path.with_name(path.name + ".data")
        size = path.stat().st_size + (data.stat().st_size if data.exists() else 0)
        return CompileReport(sum(1 for _ in model.graph.all_nodes()), size, load_seconds)

    def session_options(self, *, threads: int | None = None) -> Any:
        return session_options(threads=threads)

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        return open_session(path, threads=threads)

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


def _refusal(found: Sequence[Unsupported]) -> BadInput:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if first.origin is None:
        hint = "Export the model with another operator or type there, or at another opset."
    else:
        hint = f"Edit {first.origin} made it: leave that pass out of the recipe, or set its options."
    return BadInput(f"target 'cpu' cannot run {first}{more}", hint=hint)


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
