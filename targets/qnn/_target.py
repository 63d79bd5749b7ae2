"""The target qnn: onnxruntime's plugin for Qualcomm's NPU, whose simulator runs on x86."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from graphopt.targets import ForeignTarget, OperatorTable, OperatorTables, Unsupported

_OF_SIZES = {"Shape", "Size"}


class QnnKernels(OperatorTable):
    """What of a graph is left once its sizes are known: onnxruntime computes the rest before QNN sees it."""

    def unsupported(self, model: ir.Model) -> Sequence[Unsupported]:
        known = _known(model.graph)
        return [one for one in super().unsupported(model) if one.node not in known]


class QnnTarget(ForeignTarget):
    """Qualcomm's NPU (HTP) by onnxruntime's plugin; on x86 the simulator in the same wheel.

    What is compiled is an .onnx file of EPContext nodes, which stock onnxruntime with that wheel loads.
    """

    name: ClassVar[str] = "qnn"
    file: ClassVar[Path] = Path(__file__).parent.with_suffix(".toml")
    engine: ClassVar[Path] = Path(__file__).with_name("_engine.py")
    suffix: ClassVar[str] = ".ctx.onnx"

    def capabilities(self) -> QnnKernels:
        return QnnKernels(self.description)

    def probed(self) -> OperatorTables:
        """Each operator is tried on the simulator: minutes."""
        from .._probe import tables

        self.diagnose().require(self.name)
        return tables(self)


def _known(graph: ir.Graph) -> set[str | None]:
    """Names of nodes that make constants of constants and sizes."""
    constants: set[ir.Value] = set(graph.initializers.values())
    known: set[str | None] = set()
    for node in graph:
        if node.op_type in _OF_SIZES or all(value is None or value in constants for value in node.inputs):
            constants.update(node.outputs)
            known.add(node.name)
    return known
