"""From a source to a graph whose weights are still in its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.export._bind import bind
from graphopt.export._config import as_dict, choose_family, load_config
from graphopt.export._convert import NotByName
from graphopt.export._environment import quiet, require_exporter
from graphopt.export._load import load_torch_model
from graphopt.export._names import rename
from graphopt.export._source import Source
from graphopt.export._trace import trace
from graphopt.families import Family, Interface
from graphopt.ir import SafetensorsIndex, load_model

if TYPE_CHECKING:
    from graphopt.export._skeleton import Skeleton

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
    auto_class = family.model_class(task)
    notes: list[str] = []
    try:
        skeleton = _skeleton(auto_class, config, trust_remote_code)
        say(f"tracing {type(skeleton.model).__name__}")
        model = _traced(family, skeleton.model, task)
        bind(model, skeleton, checkpoint)
    except NotByName as reason:
        say("tracing with the weights in memory")
        notes.append(f"the weights were loaded into memory to export them: {reason}")
        network = load_torch_model(folder, auto_class, trust_remote_code=trust_remote_code)
        model = _traced(family, network, task)
    return Exported(model, Interface.of(model), task, family, as_dict(config), folder, notes)


def _skeleton(auto_class: str, config: Any, trust_remote_code: bool) -> Skeleton:
    import transformers

    from graphopt.export._skeleton import build_skeleton

    with quiet():
        return build_skeleton(getattr(transformers, auto_class), config, trust_remote_code=trust_remote_code)


def _traced(family: Family, network: Any, task: str) -> ir.Model:
    with quiet():
        inputs = family.export_inputs(network, task)
    model = trace(network, inputs)
    rename(model, inputs)
    return model
