"""Applies transformers' renamings and conversions of checkpoint tensors to lazy ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from graphopt.export._quantized import Checkpoint
from graphopt.ir import Concatenated, Expr, Reshaped, Sliced

__all__ = ["NotByName", "converted", "placed"]

Parts = dict[str, list[Expr]]


class NotByName(Exception):
    """The checkpoint's tensors do not map to the graph's by name alone: the model must be loaded."""


def placed(network: Any, keys: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """The names that `network` (a `PreTrainedModel`) gives to tensors of a checkpoint, for those it has.

    With each name comes the pattern of the conversion that it is an input of, if it is of one.
    """
    from transformers.core_model_loading import dot_natural_key, rename_source_key

    state = network.state_dict()
    prefix = network.base_model_prefix
    renamings, converters = _rules(network)
    result = {}
    for key in sorted(keys, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, prefix, state)
        if name not in state and key in state:
            name, pattern = rename_source_key(key, [], [], prefix, state)
        if name in state:
            result[key] = (name, pattern)
    return result


def _rules(network: Any) -> tuple[list[Any], list[Any]]:
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming

    rules = get_model_conversion_mapping(network)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    return renamings, [rule for rule in rules if isinstance(rule, WeightConverter)]


def converted(network: Any, checkpoint: Checkpoint) -> dict[str, Expr]:
    """The checkpoint's tensors under the names that `network` (a `PreTrainedModel`) gives them.

    Raises `NotByName` for a conversion that is more than moving elements.
    """
    _, converters = _rules(network)
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    result: dict[str, Expr] = {}
    collected: dict[str, tuple[Any, Parts]] = {}
    for key, (name, pattern) in placed(network, checkpoint.keys()).items():
        if pattern is None:
            result[name] = checkpoint.expr(key)
        else:
            _, parts = collected.setdefault(name, (by_pattern[pattern], {}))
            parts.setdefault(pattern, []).append(checkpoint.expr(key))
    for name, (rule, parts) in collected.items():
        result.update(_convert(name, rule, parts))
    return result


def _convert(name: str, rule: Any, parts: Parts) -> Mapping[str, Expr]:
    for operation in rule.operations:
        apply = _OPERATIONS.get(type(operation).__name__)
        if apply is None or getattr(operation, "num_shards_attribute", None) is not None:
            raise NotByName(f"{name!r} is made from the checkpoint by {type(operation).__name__}")
        parts = apply(operation.dim, parts, rule)
    first = rule.target_patterns[0]
    if first not in name or any(len(tensors) != 1 for tensors in parts.values()):
        raise NotByName(f"{name!r} is made from several tensors of the checkpoint")
    before, _, after = name.partition(first)
    return {before + target + after: tensors[0] for target, tensors in parts.items()}


def _merge_modules(axis: int, parts: Parts, rule: Any) -> Parts:
    """One tensor for each source, its tensors stacked along a new `axis`."""

    def stack(tensors: list[Expr]) -> list[Expr]:
        return [
            Concatenated(tuple(Reshaped(t, (*t.shape[:axis], 1, *t.shape[axis:])) for t in tensors), axis)
        ]

    if len(parts) == 1:
        ((_, tensors),) = parts.items()
        return {rule.target_patterns[0]: stack(tensors)}
    return {pattern: stack(tensors) for pattern, tensors in parts.items()}


def _concatenate(axis: int, parts: Parts, rule: Any) -> Parts:
    tensors = [t for pattern in rule.source_patterns for t in parts[pattern]]
    return {rule.target_patterns[0]: [Concatenated(tuple(tensors), axis)]}


def _chunk(axis: int, parts: Parts, rule: Any) -> Parts:
    ((source,),) = parts.values()
    size = source.shape[axis] // len(rule.target_patterns)
    return {t: [Sliced(source, axis, i * size, (i + 1) * size)] for i, t in enumerate(rule.target_patterns)}


_OPERATIONS: dict[str, Callable[[int, Parts, Any], Parts]] = {
    "MergeModulelist": _merge_modules,
    "Concatenate": _concatenate,
    "Chunk": _chunk,
}
