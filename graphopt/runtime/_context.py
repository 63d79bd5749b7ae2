"""Graphs that an execution provider compiles ahead of time, and whether such a file still fits.

onnxruntime writes a graph whose compiled pieces are nodes with the provider's own bytes inside, or in a file
beside it (https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html). Beside that stands a
record of what it was compiled with, `NAME.onnx.compiled.json`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.io import digest_of, read_json

if TYPE_CHECKING:
    import onnx

__all__ = ["CompiledGraph", "ContextCheck", "add_provider", "check_context", "compile_context"]

_RECORD = ".compiled.json"
_Fit = Literal["optimal", "recompile", "unsupported"]


@dataclass(frozen=True)
class CompiledGraph:
    """What `compile_context` wrote: so many compiled pieces, and the names of the nodes that are in none.

    `files` are names beside each other: the graph, what its pieces and weights lie in, and the record.
    """

    pieces: int
    left: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class ContextCheck:
    """Whether a compiled graph fits the provider that is here: it is as good as one compiled now, compiling
    it anew is advised, or it cannot be loaded. `reason` says why where it is not the first."""

    fit: _Fit
    reason: str = ""


def add_provider(
    options: Any, provider: str, settings: Mapping[str, str] | None = None, *, device: str | None = None
) -> None:
    """Have sessions with `options` run on `provider`, one of onnxruntime's own or a registered plugin's.

    A plugin's runs on its first device, or the first of the kind `device`: "cpu", "gpu" or "npu".
    `EnvironmentProblem` where there is none.
    """
    import onnxruntime as ort

    devices = _devices(provider, device)
    if devices:
        options.add_provider_for_devices(devices, dict(settings or {}))
    elif provider in ort.get_available_providers():
        options.add_provider(provider, dict(settings or {}))
    else:
        raise EnvironmentProblem(
            f"{provider} has no device here" + (f" of the kind {device!r}" if device else ""),
            hint="`graphopt targets doctor` says what is missing.",
        )


def compile_context(
    source: Path,
    path: Path,
    *,
    provider: str,
    settings: Mapping[str, str] | None = None,
    device: str | None = None,
    options: Any = None,
    embed: bool = False,
) -> CompiledGraph:
    """Have `provider` compile the graph at `source` and write it to `path`, with a record beside it.

    `settings` are the provider's options, `device` is as for `add_provider`, and `options` an
    `onnxruntime.SessionOptions` without a provider.
    `embed`: the compiled pieces go into the graph itself, and not into files beside it. onnxruntime's own
    optimizations stay off: they make nodes that a provider may not take.

    Raises `BadInput` where the provider compiles no node, which onnxruntime by itself passes over in
    silence, or cannot compile the graph; `EnvironmentProblem` where it is not here. Nothing is written then.
    """
    import onnxruntime as ort

    options = options or ort.SessionOptions()
    options.log_severity_level = 4
    add_provider(options, provider, settings, device=device)
    before = set(path.parent.iterdir())
    try:
        ort.ModelCompiler(
            options,
            str(source),
            embed_compiled_data_into_model=embed,
            external_initializers_file_path=f"{path.name}.data",
            flags=ort.OrtCompileApiFlags.ERROR_IF_NO_NODES_COMPILED,
        ).compile_to_file(str(path))
        return _recorded(path, provider, settings or {}, device)
    except Exception as error:
        for written in set(path.parent.iterdir()) - before:
            shutil.rmtree(written) if written.is_dir() else written.unlink()
        if not _is_of_onnxruntime(error):
            raise
        raise BadInput(
            f"{provider} cannot compile {source}: {error}",
            hint="A provider that compiles nothing ahead of time runs the graph as it is.",
        ) from error


def check_context(path: Path, *, provider: str, device: str | None = None) -> ContextCheck:
    """Whether the compiled graph at `path` fits `provider` as it is here.

    The provider is asked, where it left word in the graph and answers; else what it was compiled with is
    compared with what is here. `BadInput` where a file of it is missing, or is not the one that was compiled.
    """
    record = _read_record(path)
    if record is not None:
        _require_whole(path, record["files"])
        if record["provider"] != provider:
            return ContextCheck("unsupported", f"it was compiled for {record['provider']}")
    if provider not in _present():
        return ContextCheck("unsupported", f"no {provider} is here")
    said = _said_by_provider(path, provider, device)
    if said is not None:
        return said
    if record is None:
        return ContextCheck("recompile", f"nothing tells what {path.name} was compiled with")
    now = _environment(provider, device)
    changed = [
        f"{name} was {record['environment'].get(name, 'absent')} and is {now.get(name, 'absent')}"
        for name in sorted({*record["environment"], *now})
        if record["environment"].get(name) != now.get(name)
    ]
    return ContextCheck("recompile", "; ".join(changed)) if changed else ContextCheck("optimal")


def _devices(provider: str, kind: str | None) -> list[Any]:
    """The device that `provider` is to run on, if it has one: a list, as onnxruntime takes it."""
    import onnxruntime as ort

    found = [one for one in ort.get_ep_devices() if one.ep_name == provider]
    return [one for one in found if kind is None or one.device.type.name.lower() == kind][:1]


def _present() -> set[str]:
    import onnxruntime as ort

    return {*ort.get_available_providers(), *(device.ep_name for device in ort.get_ep_devices())}


def _environment(provider: str, kind: str | None) -> dict[str, str]:
    """What a compiled piece may depend on: versions, and the device of `provider`."""
    import onnxruntime as ort

    found = {"onnxruntime": ort.__version__}
    for device in _devices(provider, kind):
        hardware = device.device
        found["device"] = f"{hardware.vendor} {hardware.vendor_id:#x}:{hardware.device_id:#x}"
        told = device.ep_metadata.items()
        found |= {f"device, {key}": str(value) for key, value in told if key != "library_path"}
    return found


def _said_by_provider(path: Path, provider: str, kind: str | None) -> ContextCheck | None:
    """What the provider says of what it wrote into the graph; None where it says nothing."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    devices = _devices(provider, kind)
    try:
        info = state.get_compatibility_info_from_model(str(path), provider)
    except RuntimeError as error:
        raise BadInput(f"{path} is no graph that onnxruntime can read: {error}") from error
    if not devices or not info:
        return None
    answers = state.OrtCompiledModelCompatibility
    answer = state.get_model_compatibility_for_ep_devices(devices, info)
    fits: dict[Any, _Fit] = {
        answers.EP_SUPPORTED_OPTIMAL: "optimal",
        answers.EP_SUPPORTED_PREFER_RECOMPILATION: "recompile",
        answers.EP_UNSUPPORTED: "unsupported",
    }
    if answer not in fits:
        return None
    fit = fits[answer]
    return ContextCheck(fit, "" if fit == "optimal" else f"{provider} says so of {info!r}")


def _recorded(path: Path, provider: str, settings: Mapping[str, str], kind: str | None) -> CompiledGraph:
    """Write the record of the compiled graph at `path`."""
    import onnx

    from graphopt.ir.operators import COMPILED

    model = onnx.load(path, load_external_data=False)
    pieces = [node for node in model.graph.node if node.op_type == COMPILED]
    files = [path.name, *_beside(model, pieces)]
    content = {
        "provider": provider,
        "settings": dict(settings),
        "environment": _environment(provider, kind),
        "files": {name: _print(path.with_name(name)) for name in files},
    }
    record = path.with_name(path.name + _RECORD)
    record.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    left = tuple(node.name or node.op_type for node in model.graph.node if node.op_type != COMPILED)
    return CompiledGraph(len(pieces), left, (*files, record.name))


def _beside(model: onnx.ModelProto, pieces: Sequence[onnx.NodeProto]) -> list[str]:
    """Names of the files that the pieces and weights of `model` lie in."""
    found = [
        entry.value for t in model.graph.initializer for entry in t.external_data if entry.key == "location"
    ]
    for piece in pieces:
        said = {attribute.name: attribute for attribute in piece.attribute}
        inside = "embed_mode" not in said or said["embed_mode"].i == 1
        if not inside and "ep_cache_context" in said:
            found.append(said["ep_cache_context"].s.decode())
    return list(dict.fromkeys(found))


def _print(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "digest": digest_of(path)}


def _read_record(path: Path) -> dict[str, Any] | None:
    record = path.with_name(path.name + _RECORD)
    if not record.is_file():
        return None
    found = read_json(record)
    if (
        not all(isinstance(found.get(key), dict) for key in ("environment", "files"))
        or "provider" not in found
    ):
        raise BadInput(f"{record} is damaged", hint="Compile the graph again.")
    return found


def _require_whole(path: Path, files: Mapping[str, Any]) -> None:
    """Raise where a file is not the one that was compiled. A cut one is found without reading it."""
    for name, said in files.items():
        file = path.with_name(PurePath(name).name)
        if not file.is_file():
            raise BadInput(f"{path} was compiled with {name}, which is missing", hint="Compile it again.")
        if file.stat().st_size != said["bytes"] or digest_of(file) != said["digest"]:
            raise BadInput(f"{file} is not the file that was compiled", hint="Compile it again.")


def _is_of_onnxruntime(error: Exception) -> bool:
    return type(error).__module__.startswith("onnxruntime") or isinstance(error, RuntimeError)
