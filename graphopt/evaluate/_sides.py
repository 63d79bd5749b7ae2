"""The models that are compared, each as what a measurement needs of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput, CheckFailed
from graphopt.evaluate._language import as_logits
from graphopt.evaluate._logits import Logits, session_logits, whole_batch
from graphopt.export import FOLDER, ONNX, Source, resolve_source
from graphopt.interface import Interface, Model
from graphopt.package import MANIFEST, RunnablePackage
from graphopt.runtime import open_session, session_model, session_specs, states_by_name

__all__ = ["Batched", "PackageSide", "Side", "SourceSide", "side_of"]

Tokens = NDArray[np.int64]
Batched = Callable[[Tokens, Tokens], NDArray[np.floating[Any]]]
"""A causal language model: from tokens and mask int64[B, S] to logits [B, S, vocabulary]."""


class PackageSide:
    """A package of one graph, whose session is opened once."""

    def __init__(self, package: RunnablePackage) -> None:
        self.package = package
        self.name = str(package.path)
        self.folder: Path | None = package.path
        self.interface = package.interface()

    @property
    def states(self) -> Mapping[str, str] | None:
        return self.package.manifest.graphs["model"].states

    @cached_property
    def session(self) -> Any:
        """An `onnxruntime.InferenceSession` of its graph."""
        return self.package.session()

    @cached_property
    def logits(self) -> Logits:
        """As a causal language model. `CheckFailed` where its graph does not give logits."""
        if all(spec.name != "logits" for spec in self.session.get_outputs()):
            given = ", ".join(spec.name for spec in self.session.get_outputs()[:4])
            raise CheckFailed(f"{self.name} gives no logits: its graph's outputs are {given}")
        return session_logits(self.session, self.states)

    @cached_property
    def batched(self) -> Batched:
        """The same for several sequences."""
        return _batched(self.session, self.states)

    @cached_property
    def model(self) -> Model:
        """As a function with its source's interface."""
        return self.package.as_source()


class SourceSide:
    """A source: a folder of Hugging Face in PyTorch, or an .onnx file.

    A folder has the interface that it was exported with, as `package` says, which was made from it.
    """

    def __init__(self, source: Source, package: RunnablePackage, *, trust_remote_code: bool) -> None:
        self.source, self._package, self._trusted = source, package, trust_remote_code
        self.name = source.name
        self.folder: Path | None = source.path if source.kind == FOLDER else None

    @cached_property
    def interface(self) -> Interface:
        if self.source.kind != ONNX:
            return self._package.interface()
        return Interface(
            tuple(session_specs(self.session.get_inputs())), tuple(session_specs(self.session.get_outputs()))
        )

    @cached_property
    def states(self) -> Mapping[str, str]:
        """Names of inputs that hold the past, with those of the outputs that are its present."""
        if self.source.kind == ONNX or self._package.manifest.family is None:
            return states_by_name(spec.name for spec in self.interface.inputs)
        return self._package.family().states(self.interface)

    @cached_property
    def session(self) -> Any:
        """An `onnxruntime.InferenceSession` of the file."""
        return open_session(self.source.path)

    @cached_property
    def logits(self) -> Logits:
        """As a causal language model."""
        if self.source.kind == ONNX:
            return session_logits(self.session, self.states)
        return as_logits(self.model, self.interface, self.states)

    @cached_property
    def batched(self) -> Batched:
        """The same for several sequences."""
        if self.source.kind == ONNX:
            return _batched(self.session, self.states)

        def logits(tokens: Tokens, mask: Tokens) -> NDArray[np.floating[Any]]:
            feeds = whole_batch(self.interface.inputs, tokens, mask, self.states)
            return self.model(feeds)["logits"]

        return logits

    @cached_property
    def model(self) -> Model:
        """As a function. `BadInput` for feeds that it cannot run on."""
        if self.source.kind == ONNX:
            run = session_model(self.session, self.source.name, BadInput)
            names = {spec.name for spec in self.interface.inputs}
            return lambda feeds: run({name: array for name, array in feeds.items() if name in names})
        package = self._package
        return package.family().reference(
            self.source.path,
            package.manifest.task,
            package.interface(),
            trust_remote_code=self._trusted,
        )


def _batched(session: Any, states: Mapping[str, str] | None) -> Batched:
    """As `session_logits`, for several sequences."""
    inputs = session_specs([*session.get_inputs(), *session.get_overridable_initializers()])

    def logits(tokens: Tokens, mask: Tokens) -> NDArray[np.floating[Any]]:
        (result,) = session.run(["logits"], whole_batch(inputs, tokens, mask, states))
        return result  # type: ignore[no-any-return]

    return logits


Side = PackageSide | SourceSide


def side_of(reference: str | Path, package: RunnablePackage, *, trust_remote_code: bool) -> Side:
    """What `reference` names, beside `package`: another package's folder, or a source."""
    if (Path(reference) / MANIFEST).is_file():
        return PackageSide(RunnablePackage.load(reference))
    source = resolve_source(reference, trust_remote_code=trust_remote_code)
    return SourceSide(source, package, trust_remote_code=trust_remote_code)
