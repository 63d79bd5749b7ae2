"""Whether what a plugin brings is what a pack is made of."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.plugins.registry import Pack

__all__ = ["validate_pack"]


def validate_pack(pack: Pack) -> str | None:
    """The first thing that is wrong with the contents of `pack`, if one is."""
    from graphopt.families import Family
    from graphopt.targets import Target

    faults = [
        *_folders(pack),
        *_classes("targets", pack.targets, Target, {"name": str}),
        *_classes("families", pack.families, Family, {"name": str, "tasks": tuple}),
    ]
    if pack.passes:  # only then: their base class takes a while to import
        from graphopt.pipeline import Contract, Level, Pass

        faults += _classes("passes", pack.passes, Pass, {"name": str, "level": Level, "contract": Contract})
    if pack.rules:
        faults += _rules(pack.rules)
    return next(iter(faults), None)


def _folders(pack: Pack) -> Iterable[str]:
    for what, folder in (("recipes", pack.recipes), ("examples", pack.examples)):
        if not isinstance(folder, Path | None):
            yield f"its {what} are not a pathlib.Path"
    models = pack.models
    if not isinstance(models, Mapping) or not all(isinstance(folder, Path) for folder in models.values()):
        yield "its models are not a mapping of names to pathlib.Path"


def _rules(rules: Any) -> Iterable[str]:
    from graphopt.lint import CODE, Rule

    if not isinstance(rules, tuple) or not all(isinstance(rule, Rule) for rule in rules):
        yield "its rules are not a tuple of graphopt.lint.Rule"
        return
    codeless = [rule.code for rule in rules if not CODE.fullmatch(rule.code)]
    yield from (f"the rule {code!r} has no code like AB123" for code in codeless)


def _classes(what: str, classes: Any, base: type, needed: Mapping[str, type]) -> Iterable[str]:
    if not isinstance(classes, tuple) or not all(isinstance(cls, type) for cls in classes):
        yield f"its {what} are not a tuple of classes"
        return
    for cls in classes:
        for attribute, kind in needed.items():
            if not hasattr(cls, attribute):
                yield f"{cls.__qualname__} has no {attribute!r}"
            elif not isinstance(getattr(cls, attribute), kind):
                yield f"{cls.__qualname__}.{attribute} is no {kind.__name__}"
        if not issubclass(cls, base):
            yield f"{cls.__qualname__} is no graphopt {base.__name__}"
        elif inspect.isabstract(cls):
            missing = ", ".join(sorted(cls.__abstractmethods__))
            yield f"{cls.__qualname__} lacks {missing}"
