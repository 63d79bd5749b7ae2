"""What there is to plan for: a model's work, and what is known of its damages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphopt.cost import DOCUMENT, NODE, SHAPES, DecoderShape, GraphWork, decoder_work
from graphopt.errors import BadInput
from graphopt.io import nearest, read_json
from graphopt.plan import PLAN, Plan
from graphopt.planner._sensitivities import Sensitivities
from graphopt.plugins import registry

__all__ = ["Planned", "planned_source"]

_TASK = "text-generation"


@dataclass(frozen=True)
class Planned:
    """A model by the `name` that the user gave it, its `work` in single precision, and its `sensitivities`,
    where an earlier run measured them. `source` is what it is made from; None for a shape, which has no
    weights. `positions` is how many tokens it was made for; None where only a graph is known."""

    name: str
    work: GraphWork
    source: str | None = None
    sensitivities: Sensitivities | None = None
    positions: int | None = None


def planned_source(text: str) -> Planned:
    """What `text` names: a shape ("llama-8b"), a package, or what `resolve_source` finds.

    Of a folder no weight is read, only its config.json. Raises `BadInput` for what does not exist, and for a
    model that is no decoder and no .onnx file.
    """
    path = Path(text).expanduser()
    if not path.exists() and text in SHAPES:
        shape = DecoderShape.of(SHAPES[text])
        return Planned(text, decoder_work(shape), positions=shape.positions)
    if (path / "graphopt.lock").is_file():
        return _package(text, path)
    return _resolved(text)


def _resolved(text: str) -> Planned:
    from graphopt.export import FOLDER, ONNX, resolve_source

    near = nearest(text, SHAPES)
    if (
        near is not None
        and "/" not in text
        and not Path(text).exists()
        and text not in registry.embedded_models()
    ):
        raise BadInput(f"{text} does not exist", hint=f"Did you mean the shape {near!r}?")
    source = resolve_source(text)
    if source.kind == ONNX:
        from graphopt.cost import work_of
        from graphopt.ir import load_model

        model = load_model(source.path)
        work = work_of(model)
        if not work.caches:
            raise BadInput(
                f"{text} has no cache of keys and values, and plans are of models that write text with one",
                hint="graphopt bench measures a package of any model.",
            )
        work = replace(work, told_bytes=DOCUMENT + NODE * len(model.graph))
        return Planned(text, work, text)
    if source.kind != FOLDER:
        raise BadInput(
            f"{text} is nothing that can be planned for before it is exported",
            hint="graphopt export makes a folder with a model.onnx of it: plan for that file.",
        )
    config = read_json(source.path / "config.json")
    shape = DecoderShape.of(config)
    work = replace(decoder_work(shape), other_bytes=_taken_over(source.path, config))
    return Planned(text, work, text, _known(source), shape.positions)


def _taken_over(folder: Path, config: Mapping[str, Any]) -> int:
    """Bytes of files that a package of a language model has from its source: its tokenizer, how it writes."""
    families = (cls() for cls in registry.families().values())
    family = next(one for one in families if _TASK in one.tasks and one.matches(config, _TASK))
    return sum(path.stat().st_size for path in family.taken_over(folder))


def _known(source: Any) -> Sensitivities | None:
    """What a run of this source left in the cache."""
    from graphopt.cache import RunCache

    cache = RunCache.open(source, "auto", {})
    found = None if cache is None else cache.plan()
    if found is None:
        return None
    return Sensitivities.of(Plan.model_validate(found[PLAN]), found["options"])


def _package(text: str, path: Path) -> Planned:
    """A package stands for the source that it was made of, whose damages it may know."""
    from graphopt.package import LOCK, Lock

    lock = Lock.model_validate(read_json(path / LOCK))
    try:
        planned = planned_source(lock.source)
    except BadInput as error:
        raise BadInput(
            f"{text} was made of {lock.source}, and that is not here",
            hint=f"A plan is of a source, not of a package that is made already. {error.message}.",
        ) from error
    made = lock.decisions.get(PLAN)
    if made is None:
        return replace(planned, name=text)
    plan = Plan.model_validate(made)
    options = next(step.options for step in lock.steps if step.name.partition("#")[0] == plan.step)
    return replace(planned, name=text, sensitivities=Sensitivities.of(plan, options))
