"""The target openvino: OpenVINO's own runtime, which reads ONNX, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from graphopt.targets import ForeignTarget, LoadedNode, OperatorTables

from ._loaded import loaded_nodes

_INTEGERS = 4
"""The accuracy_level of MatMulNBits at which activations may be rounded to 8 bits."""


class OpenVinoTarget(ForeignTarget):
    """OpenVINO's own runtime on the processor: static int8, bfloat16 where a graph rounds anyway."""

    name: ClassVar[str] = "openvino"
    file: ClassVar[Path] = Path(__file__).parent.with_suffix(".toml")
    engine: ClassVar[Path] = Path(__file__).with_name("_engine.py")

    def settings(self, model: ir.Model) -> dict[str, Any]:
        """Floats are bfloat16 where the graph rounds to integers anyway, and else what the graph says.

        OpenVINO by itself takes bfloat16 for every graph where the processor has it, and rounds what integers
        are multiplied by to 8 bits: here where all weights in blocks allow that.
        """
        found = super().settings(model)
        if any(node.op_type == "QuantizeLinear" for node in model.graph):
            found["options"] |= {"INFERENCE_PRECISION_HINT": "bf16"}
        blocks = [node for node in model.graph if node.op_type == "MatMulNBits"]
        if blocks and all(node.attributes.get_int("accuracy_level", 0) >= _INTEGERS for node in blocks):
            found["options"] |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"}
        return found

    def probed(self) -> OperatorTables:
        """Each operator is tried: minutes."""
        from .._probe import tables

        self.diagnose().require(self.name)
        return tables(self)

    def loaded_nodes(self, path: Path) -> Sequence[LoadedNode]:
        return loaded_nodes(self.session(path, threads=1).nodes())
