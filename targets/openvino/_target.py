"""The target openvino: OpenVINO's own runtime, which reads ONNX, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from graphopt.targets import ForeignTarget, LoadedNode

from ._loaded import loaded_nodes


class OpenVinoTarget(ForeignTarget):
    """OpenVINO's own runtime on the processor: static int8, bfloat16 where a graph rounds anyway."""

    name: ClassVar[str] = "openvino"
    file: ClassVar[Path] = Path(__file__).parent.with_suffix(".toml")
    engine: ClassVar[Path] = Path(__file__).with_name("_engine.py")

    def settings(self, model: ir.Model) -> dict[str, Any]:
        """Floats are bfloat16 where the graph rounds to integers anyway, and else what the graph says.

        OpenVINO by itself takes bfloat16 for every graph where the processor has it.
        """
        found = super().settings(model)
        if any(node.op_type == "QuantizeLinear" for node in model.graph):
            found["options"] |= {"INFERENCE_PRECISION_HINT": "bf16"}
        return found

    def loaded_nodes(self, path: Path) -> Sequence[LoadedNode]:
        return loaded_nodes(self.session(path, threads=1).nodes())
