"""Execution providers that come as libraries of their own, registered with the installed onnxruntime."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.runtime._session import opened_by, told

__all__ = ["open_on_devices", "provider_devices", "provider_starts", "register_provider"]


@functools.cache
def register_provider(module: str) -> str:
    """The name of the provider whose library the wheel imported as `module` brings, registered once.

    Such wheels say where it lies by `get_library_path` and what it is called by `get_ep_name`
    (onnxruntime's documentation, "Plugin Execution Provider Packaging Guidance"). `EnvironmentProblem` where
    the wheel is missing or the installed onnxruntime cannot load its library.
    """
    import onnxruntime as ort

    try:
        wheel = importlib.import_module(module)
    except ImportError as error:
        raise EnvironmentProblem(f"{module} cannot be imported: {error}") from error
    name = str(wheel.get_ep_name())
    try:
        ort.register_execution_provider_library(name, wheel.get_library_path())
    except Exception as error:
        raise EnvironmentProblem(
            f"onnxruntime {ort.__version__} cannot load the library of {module}: {error}"
        ) from error
    return name


def provider_starts(provider: str, provider_options: Mapping[str, str]) -> bool:
    """Whether a session of one node comes to be with a provider that onnxruntime was built with.

    Where its libraries or its device are missing, onnxruntime logs that and leaves the provider out.
    """
    import onnx

    from graphopt.runtime._session import CPU, session_of

    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([node], "start", [x], [y])
    imports = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    try:
        made = session_of(model, providers=((provider, dict(provider_options)), CPU))
    except (BadInput, EnvironmentProblem):
        return False
    return provider in made.get_providers()


def provider_devices(provider: str, kind: str) -> Sequence[Any]:
    """The `OrtEpDevice`s of a provider that are of `kind`: "cpu", "gpu" or "npu"."""
    import onnxruntime as ort

    return [
        found
        for found in ort.get_ep_devices()
        if found.ep_name == provider and found.device.type.name.lower() == kind
    ]


def open_on_devices(
    path: Path, provider: str, kind: str, provider_options: Mapping[str, str], options: Any
) -> Any:
    """An `onnxruntime.InferenceSession` of the graph at `path` on the registered provider's devices.

    `EnvironmentProblem` where it has none of `kind`, `BadInput` where the graph cannot be loaded.
    """
    import onnxruntime as ort

    devices = provider_devices(provider, kind)
    if not devices:
        raise EnvironmentProblem(f"{provider} finds no device of kind {kind!r} here")
    options.add_provider_for_devices(devices[:1], dict(provider_options))
    told(options)
    # a provider's own exceptions have no common base
    return opened_by(
        lambda: ort.InferenceSession(str(path), options, enable_fallback=False),
        options,
        provider,
        str(path),
        (Exception,),
        provider,
    )
