"""What onnxruntime's CPU provider has kernels for, and what these demand and are slow at."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from graphopt.targets import RegisteredKernels, Remark

from ._integers import computes_in_integers
from ._rules import demands, remark, tried

_FAST_UNTIL = {"AveragePool": 18}
"""From opset 19 on onnxruntime (1.32) averages by loops of its own, not by MLAS: docs/decisions/opsets.md."""


class CpuCapabilities(RegisteredKernels):
    """Kernels of the installed onnxruntime's CPU provider."""

    def accepts(self, rule: str, *values: int) -> bool:
        return tried(rule, values)

    def computes_in_integers(self, op_type: str) -> bool:
        return computes_in_integers(op_type)

    def fast_until(self, op_type: str) -> int | None:
        return _FAST_UNTIL.get(op_type)

    def refusal(self, node: ir.Node) -> str | None:
        return next((d.otherwise for d in demands(node) if not tried(d.rule, d.values)), None)

    def remarks(self, model: ir.Model) -> Sequence[Remark]:
        return [found for node in model.graph.all_nodes() if (found := remark(node)) is not None]
