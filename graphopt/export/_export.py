"""From a source to a graph whose weights are still in its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.export._bind import bind
from graphopt.export._config import (
    architecture_of,
    as_dict,
    choose_family,
    forget_quantization,
    load_config,
    refuse_rotation_by_length,
)
from graphopt.export._convert import NotByName
from graphopt.export._environment import quiet, require_exporter
from graphopt.export._load import load_torch_model
from graphopt.export._names import rename
from graphopt.export._pooler import NO_POOLER, lacks_pooler
from graphopt.export._quantized import Checkpoint, open_checkpoint, turn_as_stored
from graphopt.export._source import FOLDER, GGUF, ONNX, Source
from graphopt.export._trace import CannotTrace, reported, trace
from graphopt.export._whole import left_out
from graphopt.families import Family, InputDomain, Part
from graphopt.importers import GgufCheckpoint, Imported, write_model_folder
from graphopt.interface import Interface
from graphopt.io import cache_folder, without_collection
from graphopt.ir import load_model, made_up_names

__all__ = ["Exported", "export", "export_parts"]

ONNX_TASK = "onnx"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A graph of a model, its weights lazy, not optimized; `role` is "model" where it is the whole.

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
    role: str = "model"

    def part(self) -> Part | None:
        """What the family says about this graph."""
        return self.family.parts(self.task)[self.role] if self.family is not None else None

    def domain(self) -> InputDomain | None:
        """Legal inputs of this graph, where they are known."""
        part = self.part()
        return part.input_domain(self.interface, self.config or {}) if part is not None else None


def export(
    source: Source, *, task: str = "auto", trust_remote_code: bool = False, progress: Progress | None = None
) -> Exported:
    """Make `source` one graph: `export_parts`, and `BadInput` for a model that is several."""
    (made,) = _exported(source, task, trust_remote_code, progress, several=False)
    return made


def export_parts(
    source: Source, *, task: str = "auto", trust_remote_code: bool = False, progress: Progress | None = None
) -> list[Exported]:
    """Make `source` graphs: an .onnx file is loaded as it is, a Hugging Face folder traced at opset 23.

    Tracing needs no memory for weights: they stay lazy ranges of the folder's safetensors, upcast to
    float32. Raises `BadInput` for a model that is damaged, incomplete or cannot be traced,
    `EnvironmentProblem` where torch or transformers is missing or too old.
    """
    return _exported(source, task, trust_remote_code, progress, several=True)


@without_collection()
def _exported(
    source: Source, task: str, trust_remote_code: bool, progress: Progress | None, *, several: bool
) -> list[Exported]:
    say = progress or (lambda text: None)
    if source.kind == ONNX:
        if task not in ("auto", ONNX_TASK):
            raise BadInput(
                f"{source.path} is an ONNX file: its task cannot be chosen", hint="Leave --task out."
            )
        model = load_model(source.path)
        _name_nodes(model)
        return [Exported(model, Interface.of(model), ONNX_TASK)]
    if source.kind not in (FOLDER, GGUF):
        raise BadInput(
            f"{source.name} is of the kind {source.kind!r}, and only {FOLDER}, {GGUF} and {ONNX} are exported"
        )
    say("loading PyTorch and transformers")
    require_exporter()
    if source.kind == GGUF:
        folder = _model_folder(source.path)
        write_model_folder(source.path, folder)
        source = replace(source, path=folder)
    return _export_folder(source, task, trust_remote_code, say, several)


def _model_folder(path: Path) -> Path:
    """Where the configuration and the tokenizer of a GGUF file are put, in the cache."""
    state = path.stat()
    said = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    return cache_folder() / "gguf" / hashlib.sha256(said.encode()).hexdigest()[:16]


def _name_nodes(model: ir.Model) -> None:
    """A name for each node without one: passes call what they make after what was there."""
    nodes = list(model.graph.all_nodes())
    taken = {node.name for node in nodes}
    for node, name in zip(nodes, made_up_names(nodes), strict=True):
        if not node.name:
            while name in taken:
                name += "_"
            taken.add(name)
            node.name = name


def _export_folder(
    source: Source, task: str, trust_remote_code: bool, say: Progress, several: bool
) -> list[Exported]:
    folder = source.path
    checkpoint = open_checkpoint(folder)
    config = load_config(folder, trust_remote_code=trust_remote_code)
    refuse_rotation_by_length(config)
    family, task = choose_family(config, task, folder)
    parts = family.parts(task)
    if len(parts) > 1 and not several:
        raise BadInput(f"{source.name} is several graphs: {', '.join(parts)}")
    notes: list[str] = []
    if isinstance(checkpoint, GgufCheckpoint):
        _refuse_unkept(source, checkpoint)
        notes += checkpoint.notes
    if isinstance(checkpoint, Imported):
        forget_quantization(config)
        notes.append(f"weights are read as they were quantized ({checkpoint.reader.describe()})")
    try:
        models = _weightless(family, parts, task, config, checkpoint, trust_remote_code, say, notes)
    except (NotByName, CannotTrace) as reason:
        if isinstance(reason, CannotTrace) and not reason.needs_data:
            raise
        if isinstance(checkpoint, Imported | GgufCheckpoint):
            raise BadInput(
                f"{source.name} holds weights that are already quantized, and cannot be exported without "
                f"loading them: {reason}",
                hint="Start from the unquantized model: graphopt quantizes it for the target itself.",
            ) from reason
        say("tracing again, with the weights in memory")
        network = load_torch_model(folder, family.model_class(task), trust_remote_code=trust_remote_code)
        models = {role: _traced(part, network, task) for role, part in parts.items()}
        notes += (note for note in left_out(network, checkpoint) if note not in notes)
        notes.append(f"the weights were loaded into memory for the export: {reason}")
    for role, model in models.items():
        notes += parts[role].finish(model, folder)
    fields = as_dict(config)
    return [
        Exported(model, Interface.of(model), task, family, fields, folder, list(notes), role)
        for role, model in models.items()
    ]


def _refuse_unkept(source: Source, checkpoint: GgufCheckpoint) -> None:
    if checkpoint.unkept and not source.requantize:
        raise BadInput(
            f"{source.name} holds weights in {', '.join(checkpoint.unkept)}, blocks with zero points that "
            "are no integers, which no kernel reads as they are",
            hint="Have them rounded again, which loses twice, with --requantize; or start from the model's "
            "safetensors, or from a file in Q4_0, Q8_0 or Q6_K.",
        )


def _weightless(
    family: Family,
    parts: Mapping[str, Part],
    task: str,
    config: Any,
    checkpoint: Checkpoint,
    trust: bool,
    say: Progress,
    notes: list[str],
) -> dict[str, ir.Model]:
    import transformers

    from graphopt.export._skeleton import build_skeleton

    auto_class = getattr(transformers, family.model_class(task))
    with quiet(), reported(architecture_of(config)):
        skeleton = build_skeleton(auto_class, config, trust_remote_code=trust)
        if lacks_pooler(skeleton.model, checkpoint):
            skeleton = build_skeleton(auto_class, config, trust_remote_code=trust, **NO_POOLER)
            notes.append("the checkpoint holds no pooler: there is no output pooler_output")
    if isinstance(checkpoint, Imported):
        turn_as_stored(skeleton.model, checkpoint)
    notes += left_out(skeleton.model, checkpoint)
    models = {}
    for role, part in parts.items():
        say(f"tracing {type(skeleton.model).__name__}" + (f", its {role}" if len(parts) > 1 else ""))
        models[role] = _traced(part, skeleton.model, task)
        bind(models[role], skeleton, checkpoint)
    return models


def _traced(part: Part, network: Any, task: str) -> ir.Model:
    with part.tracing(network):
        with quiet(), reported(type(network).__name__):
            inputs = part.export_inputs(network, task)
        model = trace(network, inputs)
    rename(model, inputs)
    return model
