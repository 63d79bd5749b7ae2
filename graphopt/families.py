"""What a model family says about its models: how to trace them, what legal inputs are, what a package needs.

Importing this module loads no torch; methods that need it import it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from graphopt.interface import Dim, Interface, Model

__all__ = [
    "DEFAULT_RECIPE",
    "Assumption",
    "Case",
    "ExportInputs",
    "Family",
    "InputDomain",
    "PackageContext",
    "Padding",
    "Part",
    "Reference",
    "meeting",
]

Padding = Literal["none", "left", "right"]

DEFAULT_RECIPE = "lossless"
"""The recipe for a source of which nobody says more: results stay."""


@dataclass(frozen=True)
class ExportInputs:
    """One sample call of a model's `forward`, with the names the graph shall have.

    `kwargs` are the arguments; their tensors, which may sit inside containers, are on the meta device.
    `dims` describes those tensors in the order in which the containers hold them: graph input name to dims,
    where a name stands for what varies. `outputs` names the results in order (None: as the model does).
    `derived` says which names follow from others, and how torch spells it: `{"total": "past + sequence"}`.
    `forward` is what to trace in place of the model's own, if not that: it takes `kwargs` and gives tensors.
    """

    kwargs: Mapping[str, Any]
    dims: Mapping[str, tuple[Dim, ...]]
    outputs: tuple[str, ...] | None = None
    derived: Mapping[str, str] = field(default_factory=dict)
    forward: Callable[..., tuple[Any, ...]] | None = None


@dataclass(frozen=True)
class Case:
    """One legal call of a model.

    `compare` maps each output to a bool array that broadcasts to it: where it is False the output is
    unspecified (rows of padding, say) and is not compared. `padding` says on which side the batch is
    padded, if at all, and `padded_past` that its past is too.
    """

    name: str
    feeds: Mapping[str, np.ndarray]
    compare: Mapping[str, np.ndarray]
    padding: Padding = "none"
    padded_past: bool = False


@dataclass(frozen=True)
class Assumption:
    """A condition under which alone a package is right: `text` for people, the rest says which calls meet it.

    `padding` are the sides on which a batch may be padded, and `padded_past` whether its past may be.
    `below` are bounds of integer inputs, by name, and `longest` of the size of inputs' second dimension.
    `not_empty` names dimensions that are not zero.
    """

    key: str
    text: str
    padding: tuple[Padding, ...] = ("none", "left", "right")
    padded_past: bool = True
    below: Mapping[str, int] = field(default_factory=dict)
    longest: Mapping[str, int] = field(default_factory=dict)
    not_empty: tuple[str, ...] = ()

    def allows(self, case: Case) -> bool:
        """Whether `case` meets it."""
        return (
            case.padding in self.padding
            and (self.padded_past or not case.padded_past)
            and self.refused(case.feeds) is None
            and self.too_long(case.feeds) is None
        )

    def refused(self, feeds: Mapping[str, np.ndarray]) -> tuple[str, int] | None:
        """An input of `feeds`, and a number in it that is not within its bound; None where all are.

        Below zero indices count from the end, as far as there is something.
        """
        for name, bound in self.below.items():
            array = np.asarray(feeds.get(name, 0))
            beyond = array[(array >= bound) | (array < -bound)]
            if beyond.size:
                return name, int(beyond.flat[0])
        return None

    def too_long(self, feeds: Mapping[str, np.ndarray]) -> tuple[str, int] | None:
        """An input of `feeds` that is longer than its bound, and how long; None where none is."""
        for name, most in self.longest.items():
            size = np.asarray(feeds[name]).shape[1] if name in feeds else 0
            if size > most:
                return name, size
        return None

    def allows_sizes(self, sizes: Mapping[str, int]) -> bool:
        """Whether a call in which dimensions have these `sizes` meets it, as far as sizes go."""
        return all(sizes.get(name, 1) > 0 for name in self.not_empty)

    @property
    def in_words_alone(self) -> bool:
        """Whether every call meets it, as far as `allows` can tell."""
        return self == Assumption(self.key, self.text)


def meeting(assumptions: Iterable[Assumption], cases: Iterable[Case]) -> Iterator[Case]:
    """Those of `cases` that all of the `assumptions` allow."""
    conditions = list(assumptions)
    return (case for case in cases if all(condition.allows(case) for condition in conditions))


class InputDomain(ABC):
    """What a legal call of a model is: which masks, positions, token ids and lengths go together."""

    @abstractmethod
    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small legal calls that between them take every way through the model; `rng` decides them."""

    def typical(self, rng: np.random.Generator) -> Iterator[Case]:
        """Calls in which to measure values: several rows, none of them padded; alike but for the numbers.

        By default the first such of `cases`, if there is one.
        """
        for case in self.cases(rng):
            if case.padding == "none" and all(a.ndim and len(a) > 1 for a in case.feeds.values()):
                yield case
                return

    def edges(self, rng: np.random.Generator) -> Iterator[Case]:
        """Legal calls at the edges, for checks of pieces of the model: every padding, beyond every window."""
        return iter(())

    def longer(self, rng: np.random.Generator, length: int) -> Iterator[Case]:
        """Legal calls with `length` positions, for checks of pieces in which a number almost as large occurs.

        None by default, and none where `length` is more than such a model takes.
        """
        return iter(())

    def reading(self, tokens: np.ndarray, past: int = 0) -> dict[str, np.ndarray] | None:
        """The call that reads the texts `tokens`, int64[batch, S] of equal length, from their beginning.

        With a `past`, that many tokens were read before, and the call has no arrays for the states that they
        left (`Part.states`). None by default, of a model that is given more than texts, and where there is a
        past and no state.
        """
        return None

    @property
    def positions(self) -> int | None:
        """How many positions such a model has; None where there is no end to them or nobody knows."""
        return None

    def reaching(self, rng: np.random.Generator, start: int, count: int) -> Iterator[Case]:
        """Legal calls with the `count` positions from `start` on, for pieces: no float of them counts.

        None by default. `start + count` is at most `positions`.
        """
        return iter(())

    def furthest(self, rng: np.random.Generator) -> Iterator[Case]:
        """A legal call as near to the last position as one takes little, for a check of the whole model."""
        return iter(())


class Reference(ABC):
    """The source model in PyTorch, its weights upcast to float32."""

    @abstractmethod
    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, from feeds by name: both those of the interface the model was exported with."""


@dataclass(frozen=True)
class PackageContext:
    """What `Family.package_files` may know: a final graph, and if past and present may share memory.

    Where a model is several graphs, `parts` has them by role, and the rest describes none of them.
    """

    interface: Interface
    file: str = "model.onnx"
    share_buffer: bool = False
    parts: Mapping[str, PackageContext] = field(default_factory=dict)


class Part(ABC):
    """One graph of a model: how to trace it, what legal inputs are, what PyTorch makes of them.

    `config` is the model's configuration as a dict under the field names common to all of transformers
    (`hidden_size` also where the model says `n_embd`), defaults included.
    """

    @abstractmethod
    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        """A sample call of `model`, a `PreTrainedModel` on the meta device. Every mask in it has a zero."""

    def finish(self, model: ir.Model, source_dir: Path) -> list[str]:
        """Add to a traced graph what files in `source_dir` say and PyTorch's model does not hold.

        Returns what the user should know about it, if anything.
        """
        return []

    def tracing(self, model: Any) -> AbstractContextManager[None]:
        """What holds while `model` is called by `export_inputs` and traced: code in a form that can be.

        It computes what the model computes; the closing check compares with the model as it is.
        """
        return nullcontext()

    @abstractmethod
    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        """Legal inputs of a model exported with `interface`."""

    def states(self, interface: Interface) -> Mapping[str, str]:
        """What a call of a graph of this `interface` leaves to the next: caches, states of recurrent layers.

        Names of inputs, which hold the past, each with the name of the output that is its present: what to
        feed it in the next call. Both have the batch as their first dimension; a state that grows has one
        other dimension that is no number, of size 0 before the first call, and one of fixed size is zero
        then. The package records them (`graphopt.json`), and whatever runs it token by token goes by that.
        """
        return {}

    @abstractmethod
    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        """The model at `source_dir` in PyTorch, to compare with; `interface` is what it was exported with."""


class Family(Part):
    """A kind of model: which architectures, for which tasks, and everything that is peculiar to them.

    Where the model is several graphs, `parts` are these, and the family itself describes the whole that they
    make together: `interface` and `joined` say how.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]

    @abstractmethod
    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        """Whether a model of this configuration, used for `task` (one of `tasks`), belongs here.

        `config` has `source_dir` besides, the folder that the model is in, where that is known.
        """

    @abstractmethod
    def model_class(self, task: str) -> str:
        """Name of the transformers Auto class that builds the model for `task`."""

    def default_recipe(self, task: str) -> str:
        """The name of the recipe for its models where none is asked for."""
        return DEFAULT_RECIPE

    def also_read(self, source_dir: Path) -> Iterable[Path]:
        """Files that an export reads besides those of `source_dir` and of the folders in it: those elsewhere.

        What an earlier run left in the cache counts as long as these, too, are what they were.
        """
        return ()

    def taken_over(self, source_dir: Path) -> Iterable[Path]:
        """Files of `source_dir` that `package_files` copies: what they take is asked before there is one."""
        return ()

    def parts(self, task: str) -> Mapping[str, Part]:
        """The graphs that the model is exported as, by role. One is called "model" and is the whole."""
        return {"model": self}

    def interface(self, parts: Mapping[str, Interface]) -> Interface:
        """The interface of the whole, from those of its parts."""
        return parts["model"]

    def joined(self, parts: Mapping[str, Model], interfaces: Mapping[str, Interface]) -> Model:
        """The whole as a function, from its parts as functions and their interfaces."""
        return parts["model"]

    def package_files(
        self, source_dir: Path, config: Mapping[str, Any], staging: Path, context: PackageContext
    ) -> list[str]:
        """Write into `staging` what a package needs beside its graph: tokenizer, runtime configuration.

        Returns what the user should know about it, if anything.
        """
        return []
