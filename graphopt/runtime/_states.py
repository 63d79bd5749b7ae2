"""Which outputs of a graph the next call takes, where nothing but their names says so."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["states_by_name"]

_PAST, _PRESENT = "past_key_values.", "present."


def states_by_name(inputs: Iterable[str]) -> dict[str, str]:
    """As `graphopt.families.Part.states`, of a graph that no family describes, by onnxruntime-genai's names.

    Those are past_key_values.N.KIND and present.N.KIND: of graphs that other tools made, and of packages
    whose graphopt.json does not tell.
    """
    return {name: name.replace(_PAST, _PRESENT, 1) for name in inputs if name.startswith(_PAST)}
