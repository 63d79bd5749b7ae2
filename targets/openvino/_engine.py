"""OpenVINO in a process of its own, run by `graphopt.runtime.RuntimeWorker`: numpy and openvino, no more.

Calls are asynchronous ones that are waited for: with one thread a synchronous call that fails gives the
tensors of the call before, and raises nothing (OpenVINO 2026.4.1).
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

_ASKED = ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "DYNAMIC_QUANTIZATION_GROUP_SIZE")


def facts(device: str = "CPU") -> dict[str, str]:
    """The runtime and the processor: what a compiled graph is for."""
    core = ov.Core()
    return {
        "openvino": ov.get_version(),
        "device": device,
        "processor": str(core.get_property(device, "FULL_DEVICE_NAME")),
        "capabilities": " ".join(sorted(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))),
    }


def build(source: str, out: str, settings: dict[str, Any]) -> dict[str, str]:
    """Compile the graph in an .onnx file and write what `load` takes; facts of the machine."""
    compiled = ov.Core().compile_model(source, settings["device"], settings["options"])
    Path(out).write_bytes(compiled.export_model().getvalue())
    return facts(settings["device"])


def load(path: str, settings: dict[str, Any]) -> Model:
    """A graph in an .onnx file, or what `build` made of one."""
    core = ov.Core()
    device, options = settings["device"], settings["options"] | {"INFERENCE_NUM_THREADS": settings["threads"]}
    if path.endswith(".onnx"):
        compiled = core.compile_model(path, device, options)
    else:
        compiled = core.import_model(BytesIO(Path(path).read_bytes()), device, options)
    return Model(compiled, settings["device"])


class Model:
    def __init__(self, compiled: ov.CompiledModel, device: str) -> None:
        self._compiled, self._device = compiled, device
        self._request = compiled.create_infer_request()
        self._inputs = {name: port for port in compiled.inputs for name in port.names}
        self._outputs = {name: port for port in compiled.outputs for name in port.names}

    def run(self, feeds: dict[str, np.ndarray], wanted: list[str]) -> dict[str, np.ndarray]:
        for name, array in feeds.items():
            if name in self._inputs:  # not those that no node reads
                tensor = ov.Tensor(array, shared_memory=array.size > 0)
                self._request.set_tensor(self._inputs[name], tensor)
        self._request.start_async()
        self._request.wait()
        return {name: self._request.get_tensor(self._outputs[name]).data for name in wanted}

    def facts(self) -> dict[str, str]:
        return facts(self._device) | {
            name.lower(): _said(self._compiled.get_property(name)) for name in _ASKED
        }

    def nodes(self) -> list[dict[str, str]]:
        """Of what the runtime made of the graph: what computes in which precision, from which nodes."""
        found = []
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            info = node.get_rt_info()
            inputs = [port.get_node().get_friendly_name() for port in node.input_values()]
            told = {key: str(info[name].value) for key, name in _TOLD.items() if name in info}
            found.append({"name": node.get_friendly_name(), "inputs": inputs, **told})
        return found


_TOLD = {
    "type": "layerType",
    "from": "originalLayersNames",
    "kernel": "primitiveType",
    "precision": "runtimePrecision",
}


def _said(value: Any) -> str:
    return value.get_type_name() if isinstance(value, ov.Type) else str(value)
