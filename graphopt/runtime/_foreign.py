"""Sessions of a runtime that has an interpreter of its own."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.interface import Interface, TensorSpec
from graphopt.runtime._fixed_sizes import FixedSizes
from graphopt.runtime._worker import RuntimeRefused, RuntimeWorker

__all__ = ["ForeignSession"]

Array = NDArray[Any]

_TYPES = {"float32": "float", "float64": "double"}
"""numpy's names that are not onnxruntime's."""


@dataclass(frozen=True)
class _Described:
    """An input or output as `onnxruntime.NodeArg` has it."""

    name: str
    type: str
    shape: list[int | str | None]

    @classmethod
    def of(cls, spec: TensorSpec) -> _Described:
        return cls(spec.name, f"tensor({_TYPES.get(spec.dtype, spec.dtype)})", list(spec.dims))


@dataclass(frozen=True)
class _Node:
    name: str
    op_type: str


@dataclass(frozen=True)
class _Part:
    """Nodes that one provider runs, as onnxruntime's assignment record has them."""

    ep_name: str
    nodes: Sequence[_Node]

    def get_nodes(self) -> list[_Node]:
        return list(self.nodes)


class ForeignSession:
    """What graphopt uses of an `onnxruntime.InferenceSession`, of a graph that another runtime runs.

    The engine of `worker` loads `file` with `settings`; the graph's inputs and outputs are `interface`.
    `facts` is what the runtime says of itself then. All nodes run on `provider`. Where the settings have
    `sizes`, the graph was compiled for these, and other calls are padded (`FixedSizes`). `BadInput` with the
    runtime's reason where it does not load the file.
    """

    def __init__(
        self,
        worker: RuntimeWorker,
        file: Path,
        settings: Mapping[str, Any],
        interface: Interface,
        provider: str,
    ) -> None:
        self.worker, self._interface, self._provider = worker, interface, provider
        try:
            answer = worker.ask("load", {"path": str(file.absolute()), "settings": dict(settings)})
        except RuntimeRefused as error:
            worker.close()
            raise BadInput(f"{worker.name} cannot load {file}: {error}") from error
        self.facts: dict[str, str] = answer["facts"]
        sizes = settings.get("sizes")
        self._fixed = FixedSizes(sizes, interface) if sizes else None

    def get_inputs(self) -> list[Any]:
        return [_Described.of(spec) for spec in self._interface.inputs]

    def get_outputs(self) -> list[Any]:
        return [_Described.of(spec) for spec in self._interface.outputs]

    def get_overridable_initializers(self) -> list[Any]:
        """None: the runtime takes them for constants."""
        return []

    def get_providers(self) -> list[str]:
        return [self._provider]

    def run(self, wanted: Sequence[str] | None, feeds: Mapping[str, Any], options: Any = None) -> list[Array]:
        """The `wanted` outputs, all where None. `RuntimeRefused` where the runtime cannot run on `feeds`."""
        names = [spec.name for spec in self._interface.outputs] if wanted is None else list(wanted)
        arrays = self.fitting(feeds)

        def run(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
            return self.worker.run(arrays, names, run_options=options)

        found = run(arrays) if self._fixed is None else self._fixed.run(arrays, run)
        return [found[name] for name in names]

    def fitting(self, feeds: Mapping[str, Any], held: Container[str] = ()) -> dict[str, Array]:
        """`feeds` as arrays. `RuntimeRefused` where names, types or sizes are not those of the inputs.

        Inputs that are `held` by the worker are not among them.
        """
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        wanted = {spec.name: spec for spec in self._interface.inputs if spec.name not in held}
        for name in wanted.keys() ^ arrays.keys():
            raise RuntimeRefused(f"input {name!r} is {'missing' if name in wanted else 'unknown'}")
        for name, spec in wanted.items():
            array = arrays[name]
            same = len(spec.dims) == array.ndim and all(
                not isinstance(dim, int) or dim == size
                for dim, size in zip(spec.dims, array.shape, strict=True)
            )
            if not same or array.dtype != np.dtype(spec.dtype):
                raise RuntimeRefused(
                    f"input {name!r} is {spec.dtype}{list(spec.dims)}, not {array.dtype}{list(array.shape)}"
                )
        return arrays

    def get_provider_graph_assignment_info(self) -> list[Any]:
        """The nodes that the runtime made of the graph, by what the engine says that they run on."""
        parts: dict[str, list[_Node]] = {}
        for one in self.nodes():
            provider = one.get("provider", self._provider)
            parts.setdefault(provider, []).append(_Node(one["name"], one["type"]))
        return [_Part(provider, nodes) for provider, nodes in parts.items()]

    def nodes(self) -> list[dict[str, Any]]:
        """What the runtime made of the graph, as its engine tells."""
        found: list[dict[str, Any]] = self.worker.ask("nodes", {})["nodes"]
        return found
