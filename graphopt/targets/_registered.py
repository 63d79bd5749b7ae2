"""What an execution provider of the installed onnxruntime has kernels for: read off, or tried."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from math import prod

import onnx_ir as ir

from graphopt.runtime import CPU
from graphopt.targets._capabilities import Capabilities, Unsupported
from graphopt.targets._registry import kernels_of, knows_operator, node_dtypes
from graphopt.targets._trial import loads

__all__ = ["RegisteredKernels"]


class RegisteredKernels(Capabilities):
    """Kernels of a provider that tells them: those of onnxruntime's own builds do, most plugins do not.

    Where the registry has none, and the provider is the CPU's, a session on the node alone is tried: the
    runtime expands some operators, and widens float16 where it must.
    """

    def __init__(self, provider: str = CPU) -> None:
        self.provider = provider

    def supports(self, domain: str, op_type: str, version: int, dtypes: Mapping[str, str]) -> bool:
        return any(
            all(kind in allowed.get(variable, (kind,)) for variable, kind in dtypes.items())
            for allowed in kernels_of(self.provider, domain, op_type, version)
        )

    def unsupported(self, model: ir.Model) -> Sequence[Unsupported]:
        functions = {(f.domain, f.name) for f in model.functions.values()}
        return [
            Unsupported.of(node, reason)
            for node in model.graph.all_nodes()
            if (node.domain, node.op_type) not in functions
            if (reason := self._reason(node, model.opset_imports.get(node.domain, 1)))
        ]

    def refusal(self, node: ir.Node) -> str | None:
        """Why a node of an operator that has a kernel cannot run, beyond its types; by default it can."""
        return None

    def _reason(self, node: ir.Node, version: int) -> str | None:
        if (node.domain, node.op_type) == ("", "Constant"):
            return None  # becomes an initializer
        largest = max(map(_bytes, node.outputs), default=0)
        if largest > _memory():
            return f"its result takes {largest:,} bytes, more than the machine has"
        dtypes = node_dtypes(node, version)
        if self.supports(node.domain, node.op_type, version, dtypes):
            return self.refusal(node)
        if not knows_operator(node.domain, node.op_type):
            return "onnxruntime knows no such operator"
        if self.provider == CPU and loads(node, version):
            return None
        return self._why(node, version, dtypes)

    def _why(self, node: ir.Node, version: int, dtypes: Mapping[str, str]) -> str:
        who = "the CPU provider" if self.provider == CPU else self.provider
        kernels = kernels_of(self.provider, node.domain, node.op_type, version)
        if not kernels:
            return f"{who} has no kernel for it at version {version} of its domain"
        for variable, kind in dtypes.items():
            allowed = {k for kernel in kernels for k in kernel.get(variable, (kind,))}
            if kind not in allowed:
                return f"{who} has no kernel for {kind}, only for {', '.join(sorted(allowed))}"
        return f"{who} has no kernel for {', '.join(sorted(set(dtypes.values())))} together"


@functools.cache
def _memory() -> int:
    """Bytes of the machine's memory."""
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _bytes(value: ir.Value) -> int:
    """How much a value takes; 0 where that depends on the inputs."""
    if value.shape is None or value.dtype is None or value.dtype == ir.DataType.STRING:
        return 0
    dims = [dim for dim in value.shape if isinstance(dim, int)]
    return int(prod(dims) * value.dtype.itemsize) if len(dims) == len(value.shape) else 0
