"""From a source to a graph whose weights are still in its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.export._bind import bind
from graphopt.export._config import architecture_of, as_dict, choose_family, load_config
from graphopt.export._convert import NotByName
from graphopt.export._environment import quiet, require_exporter
from graphopt.export._load import load_torch_model
from graphopt.export._names import rename
from graphopt.export._source import Source
from graphopt.export._trace import CannotTrace, reported, trace
from graphopt.families import Family, Interface
from graphopt.ir import SafetensorsIndex, load_model

__all__ = ["Exported", "export"]

ONNX_TASK = "onnx"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A model as a graph, its weights lazy, not optimized.

    `config` is the model's configuration as `Family` methods want it; it, `family` and `source_dir` are
    None for an .onnx source, whose task is "onnx". `notes` are things the user should know.
    """

    model: ir.Model
    interface: Interface
    task: str
    family: Family | None = None
    config: dict[str, Any] | None = None
    source_dir: Path | None = None
    notes: list[str] = field(default_factory=list)


def export(
    source: Source, *, task: str = "auto", trust_remote_code: bool = False, progress: Progress | None = None
) -> Exported:
    """Make `source` a graph: an .onnx file is loaded as it is, a Hugging Face folder traced at opset 23.

    Tracing needs no memory for weights: they stay lazy ranges of the folder's safetensors, upcast to
    float32. Raises `BadInput` for a model that is damaged, incomplete or cannot be traced,
    `EnvironmentProblem` where torch or transformers is missing or too old.
    """
    say = progress or (lambda text: None)
    if source.kind == "onnx":
        if task not in ("auto", ONNX_TASK):
            raise BadInput(
                f"{source.path} is an ONNX file: its task cannot be chosen", hint="Leave --task out."
            )
        model = load_model(source.path)
        return Exported(model, Interface.of(model), ONNX_TASK)
    say("loading PyTorch and transformers")
    require_exporter()
    return _export_folder(source.path, task, trust_remote_code, say)


def _export_folder(folder: Path, task: str, trust_remote_code: bool, say: Progress) -> Exported:
    checkpoint = SafetensorsIndex(folder)
    config = load_config(folder, trust_remote_code=trust_remote_code)
    family, task = choose_family(config, task)
    notes: list[str] = []
    try:
        model = _weightless(family, task, config, checkpoint, trust_remote_code, say)
    except (NotByName, CannotTrace) as reason:
        if isinstance(reason, CannotTrace) and not reason.needs_data:
            raise
        say("tracing again, with the weights in memory")
        network = load_torch_model(folder, family.model_class(task), trust_remote_code=trust_remote_code)
        model = _traced(family, network, task)
        notes.append(f"the weights were loaded into memory for the export: {reason}")
    return Exported(model, Interface.of(model), task, family, as_dict(config), folder, notes)


def _weightless(
    family: Family, task: str, config: Any, checkpoint: SafetensorsIndex, trust: bool, say: Progress
) -> ir.Model:
    import transformers

    from graphopt.export._skeleton import build_skeleton

    auto_class = getattr(transformers, family.model_class(task))
    with quiet(), reported(architecture_of(config)):
        skeleton = build_skeleton(auto_class, config, trust_remote_code=trust)
    say(f"tracing {type(skeleton.model).__name__}")
    model = _traced(family, skeleton.model, task)
    bind(model, skeleton, checkpoint)
    return model


def _traced(family: Family, network: Any, task: str) -> ir.Model:
    with quiet(), reported(type(network).__name__):
        inputs = family.export_inputs(network, task)
    model = trace(network, inputs)
    rename(model, inputs)
    return model
