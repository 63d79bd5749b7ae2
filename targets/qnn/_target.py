"""The target qnn: onnxruntime's plugin for Qualcomm's NPU, whose simulator runs on x86."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from graphopt.targets import Description, ForeignTarget, RegisteredKernels


class QnnKernels(RegisteredKernels):
    """What onnxruntime knows: QNN itself is asked when a graph is compiled, without a fallback."""

    def __init__(self, description: Description) -> None:
        super().__init__()
        self._description = description

    def computes_in_integers(self, op_type: str) -> bool:
        return op_type in self._description.integers

    def static_scales(self) -> bool:
        return self._description.static_scales


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
