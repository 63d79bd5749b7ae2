"""Adapters by their kind, a plugin's too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.interface import Adapter, Arrays, Model, adapter_kind
from graphopt.plugins import registry

__all__ = ["adapter_from_json", "adapter_to_json", "through"]


def adapter_to_json(adapter: Adapter) -> dict[str, Any]:
    """Its kind and fields, and which plugin brings it if one does."""
    plugin = registry.plugin_of(type(adapter).__module__)
    return adapter.to_json() | ({"plugin": plugin.distribution} if plugin else {})


def adapter_from_json(data: Mapping[str, Any]) -> Adapter:
    """The adapter that `adapter_to_json` described; a manifest may add the `role` of its graph.

    Raises `EnvironmentProblem` where nothing in use brings its kind, `BadInput` where it is damaged.
    """
    kind, plugin = data.get("kind"), data.get("plugin")
    if adapter_kind(kind) is None:
        registry.origins()  # plugins bring kinds as they are imported
    found = adapter_kind(kind)
    if found is None:
        left_out = [str(left) for left in registry.left_out() if left.origin.distribution == plugin]
        raise EnvironmentProblem(
            f"nothing brings the adapter {kind!r}" + (f", which is of the plugin {plugin}" if plugin else ""),
            hint="\n  ".join(left_out) or f"Install {plugin or 'what brings it, or a newer graphopt'}.",
        )
    fields = {name: value for name, value in data.items() if name not in ("kind", "role", "plugin")}
    try:
        return found.from_json(fields)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"adapter {kind!r}: cannot be read: {error}", hint="Make the package again."
        ) from error


def through(adapters: Iterable[Adapter], package: Model) -> Model:
    """`package` with the interface its source had; `EnvironmentProblem` where a plugin's adapter fails."""
    chain = tuple(adapters)

    def model(feeds: Arrays) -> dict[str, np.ndarray]:
        return _results(chain, package(_feeds(chain, feeds)))

    return model


def _feeds(chain: tuple[Adapter, ...], feeds: Arrays) -> Arrays:
    for adapter in chain:
        with registry.answerable(type(adapter)):
            feeds = adapter.feeds(feeds)
    return feeds


def _results(chain: tuple[Adapter, ...], results: Arrays) -> dict[str, np.ndarray]:
    old = dict(results)
    for adapter in reversed(chain):
        with registry.answerable(type(adapter)):
            old = adapter.results(old)
    return old
