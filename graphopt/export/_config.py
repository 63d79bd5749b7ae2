"""A model's configuration: read, checked, flattened, and what task it says it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from graphopt.errors import BadInput
from graphopt.export._environment import quiet
from graphopt.export._source import read_config_json
from graphopt.families import Family
from graphopt.plugins import registry

__all__ = [
    "architecture_of",
    "as_dict",
    "choose_family",
    "forget_quantization",
    "load_config",
    "refuse_rotation_by_length",
]


class _Said(BaseModel):
    """What transformers takes from config.json as it stands."""

    model_config = ConfigDict(strict=True, protected_namespaces=())
    architectures: list[str] | None = None
    auto_map: dict[str, Any] | None = None
    model_type: str | None = None
    quantization_config: dict[str, Any] | None = None


def load_config(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The transformers configuration of the model in `folder`.

    Raises `BadInput` for a damaged file, an architecture transformers does not have, and one that needs its
    own code run (unless `trust_remote_code`).
    """
    raw = read_config_json(folder)
    _said(raw, folder / "config.json")
    architecture = _architecture(raw)
    import transformers

    try:
        with quiet():
            return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
        if "trust_remote_code" in str(error):
            raise BadInput(
                f"{architecture or folder} comes with its own Python code, which is not run unasked",
                hint="Read the code in the model's folder, then pass --trust-remote-code.",
            ) from error
        known = raw.get("model_type") in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
        raise BadInput(
            f"{folder / 'config.json'} is not valid: {error}"
            if known
            else f"transformers {transformers.__version__} does not know architecture "
            f"{architecture or raw.get('model_type') or 'without a model_type'} ({folder})"
        ) from error


def _said(raw: Mapping[str, Any], path: Path) -> _Said:
    try:
        return _Said.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path}: {where}: {first['msg']}") from error


def _architecture(raw: Mapping[str, Any]) -> str | None:
    names = raw.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None


def refuse_rotation_by_length(config: Any) -> None:
    """Raise `BadInput` for rotary embeddings whose frequencies follow the longest text of each call.

    A cache that was filled at one length is wrong at another, and no one graph computes them.
    """
    text = config.get_text_config()
    said = getattr(text, "rope_parameters", None) or {}
    kinds = [part.get("rope_type") for part in (said, *said.values()) if isinstance(part, dict)]
    if "dynamic" not in kinds:
        return
    longest = getattr(text, "max_position_embeddings", None)
    raise BadInput(
        f"{architecture_of(config)} turns positions by frequencies that follow the length of each call "
        "(rope_type 'dynamic' in config.json), which no one graph can",
        hint=f"Up to {longest} positions they are those of rope_type 'default': use it if no text is longer.",
    )


def forget_quantization(config: Any) -> None:
    """Let `config` describe the model whose weights are plain."""
    for part in (config, config.get_text_config()):
        if hasattr(part, "quantization_config"):
            del part.quantization_config


def architecture_of(config: Any) -> str:
    """The name of the model class, or of the model type where the configuration does not say."""
    return str((config.architectures or [config.model_type])[0])


def as_dict(config: Any) -> dict[str, Any]:
    """A transformers configuration as a dict, its text part's fields on top, also under common names."""
    text = config.get_text_config()
    fields: dict[str, Any] = config.to_dict() | text.to_dict()
    for common, own in text.attribute_map.items():
        fields.setdefault(common, fields.get(own))
    fields["architectures"] = config.architectures
    fields["model_type"] = config.model_type
    return fields


def choose_family(config: Any, task: str, folder: Path | None = None) -> tuple[Family, str]:
    """The family for a configuration, and the task: as asked, or for "auto" what it was trained for.

    `folder` is where the model is; families may look at what else is there.
    """
    families = [family() for family in registry.families().values()]
    known = dict.fromkeys(name for family in families for name in family.tasks)
    fields = as_dict(config) | {"source_dir": None if folder is None else str(folder)}
    what = architecture_of(config)
    if task == "auto":
        task = _trained_for(families, fields, config)
    registry.resolve("task", task, known)
    for family in families:
        if task in family.tasks and _has_class(family, task, config) and family.matches(fields, task):
            return family, task
    raise BadInput(
        f"{what} cannot be exported for {task}: no installed model family covers it",
        hint=f"Tasks: {', '.join(known)}. `graphopt models list` shows the families.",
    )


def _trained_for(families: list[Family], fields: Mapping[str, Any], config: Any) -> str:
    architecture = _architecture(fields)
    found = [
        (family, task)
        for family in families
        for task in family.tasks
        if architecture in _class_names(family.model_class(task), config)
    ]
    for family, task in found:
        if family.matches(fields, task):
            return task
    if found:
        return found[0][1]
    known = ", ".join(dict.fromkeys(name for family in families for name in family.tasks))
    if architecture is None:
        raise BadInput(
            f"{config.model_type}: config.json does not say what the model is for",
            hint=f"Pass --task: {known}.",
        )
    raise BadInput(
        f"{architecture} is not an architecture that an installed model family covers",
        hint=f"Known tasks: {known}. A plugin can bring more.",
    )


def _class_names(auto_class: str, config: Any) -> set[str]:
    """Names of the model classes an Auto class builds from configurations of this type."""
    remote = getattr(config, "auto_map", None) or {}
    names = {str(remote[auto_class]).rpartition(".")[2]} if auto_class in remote else set()
    mapping = _mapping(auto_class)
    if type(config) in mapping:
        classes = mapping[type(config)]
        names |= {c.__name__ for c in (classes if isinstance(classes, tuple | list) else (classes,))}
    return names


def _has_class(family: Family, task: str, config: Any) -> bool:
    return bool(_class_names(family.model_class(task), config))


def _mapping(auto_class: str) -> Any:
    import transformers

    return getattr(transformers, auto_class)._model_mapping
