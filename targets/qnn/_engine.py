"""QNN's plugin in a process of its own, run by `graphopt.runtime.RuntimeWorker`: numpy and the two wheels."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import onnxruntime_qnn

_RECORDED = "session.record_ep_graph_assignment_info"
_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_NAME = onnxruntime_qnn.get_ep_name()
_SWITCH = "[01]"
_KNOWN = {
    "backend_type": "htp|gpu|cpu|ir",
    "device_id": r"\d+",
    "enable_htp_fp16_precision": _SWITCH,
    "enable_htp_spill_fill_buffer": _SWITCH,
    "extended_udma": _SWITCH,
    "htp_arch": r"\d+",
    "htp_bf16_enable": _SWITCH,
    "htp_graph_finalization_optimization_mode": "[0-3]",
    "htp_performance_mode": "burst|balanced|default|(sustained_)?high_performance|high_power_saver"
    "|low_balanced|((low|extreme)_)?power_saver",
    "offload_graph_io_quantization": _SWITCH,
    "qnn_context_priority": "low|normal|normal_high|high",
    "soc_model": r"\d+",
    "vtcm_mb": r"\d+",
}
"""Options that change what is compiled or how it runs, and their values, as
docs/execution_providers/QNN-ExecutionProvider.md of onnxruntime/onnxruntime-qnn at 0131740f3180 has them. The
provider itself (2.7.0) goes on without a word where it does not know an option or a value."""


def _devices() -> list[Any]:
    if all(device.ep_name != _NAME for device in ort.get_ep_devices()):
        ort.register_execution_provider_library(_NAME, onnxruntime_qnn.get_library_path())
    return [device for device in ort.get_ep_devices() if device.ep_name == _NAME]


def facts(device: str = "NPU") -> dict[str, str]:
    """The runtime and the machine: what a compiled graph is for."""
    if not _devices():
        raise RuntimeError(f"{_NAME} finds no device here")
    return {
        "onnxruntime": ort.__version__,
        "onnxruntime-qnn": importlib.metadata.version("onnxruntime-qnn"),
        "device": device,
        "machine": platform.machine(),
    }


def _checked(options: dict[str, str]) -> dict[str, str]:
    for name, value in options.items():
        if name not in _KNOWN:
            raise ValueError(f"it has no option {name!r}; there are {', '.join(_KNOWN)}")
        if not re.fullmatch(_KNOWN[name], value):
            raise ValueError(f"option {name!r} is {_KNOWN[name]}, not {value!r}")
    return options


def _options(settings: dict[str, Any]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = settings.get("threads", 0)
    options.add_provider_for_devices(_devices()[:1], _checked(settings["options"]))
    options.add_session_config_entry(_RECORDED, "1")
    for name, size in settings.get("sizes", {}).items():
        options.add_free_dimension_override_by_name(name, size)
    if not settings.get("fallback", False):
        options.add_session_config_entry(_NO_FALLBACK, "1")
    return options


def build(source: str, out: str, settings: dict[str, Any]) -> dict[str, str]:
    """Write the graph in an .onnx file as EPContext nodes with what was compiled inside them."""
    compiler = ort.ModelCompiler(
        _options(settings),
        source,
        embed_compiled_data_into_model=True,
        flags=ort.OrtCompileApiFlags.ERROR_IF_NO_NODES_COMPILED,
        graph_optimization_level=ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    )
    Path(out).unlink(missing_ok=True)
    try:
        compiler.compile_to_file(out)
    except Exception as error:
        if "assigned to the default CPU EP" not in str(error):
            raise
        raise RuntimeError(f"it takes all but {', '.join(_left(source, settings))}") from error
    return facts(settings["device"])


def _left(source: str, settings: dict[str, Any]) -> list[str]:
    """Nodes that would fall back to the processor: the runtime's error has no names."""
    session = ort.InferenceSession(source, _options({**settings, "fallback": True}))
    return [
        f"{node.op_type} ({node.name})"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != _NAME
        for node in part.get_nodes()
    ]


def load(path: str, settings: dict[str, Any]) -> Model:
    """A graph in an .onnx file, or what `build` made of one."""
    session = ort.InferenceSession(path, _options(settings))
    if _NAME not in session.get_providers():
        raise RuntimeError(f"the session runs on {', '.join(session.get_providers())}, without {_NAME}")
    return Model(session, settings["device"])


class Model:
    def __init__(self, session: ort.InferenceSession, device: str) -> None:
        self._session, self._device = session, device

    def run(self, feeds: dict[str, np.ndarray], wanted: list[str]) -> dict[str, np.ndarray]:
        return dict(zip(wanted, self._session.run(wanted, feeds), strict=True))

    def facts(self) -> dict[str, str]:
        return facts(self._device)

    def nodes(self) -> list[dict[str, Any]]:
        """Nodes with the provider that each runs on, by the runtime's own record."""
        return [
            {"name": node.name, "inputs": [], "type": node.op_type, "provider": part.ep_name}
            for part in self._session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        ]
