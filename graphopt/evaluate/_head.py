"""What a head is to a measurement, and heads that give labels: of whole inputs, of tokens, of images."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._example_lines import NO_LABEL, Kind
from graphopt.evaluate._examples import Example
from graphopt.interface import Arrays

__all__ = ["FLIPS", "Head", "LabelHead", "TokenHead", "row_of"]

Floats = NDArray[np.float64]

LABEL_ACCURACY = "label_accuracy"
FLIPS = ("flips_lost", "flips_won")
"""Follow from what reference and package have right: a head does not measure them itself."""
_NOTHING = -1
"""The label of a row that is not finite: there is none, and it agrees with no other."""
_FIVE = 5


class Head(Protocol):
    """What a model's outputs say of an input, and how two such answers, or an answer and the data, compare.

    `metrics` can be measured beside a reference, `of_labels` where the data says what is right. An answer is
    whatever the head makes of the outputs. `line` is the form of a line of text for it, if there is one.
    """

    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def metrics(self) -> tuple[str, ...]: ...
    @property
    def of_labels(self) -> tuple[str, ...]: ...
    @property
    def line(self) -> Kind | None: ...

    def answer(self, results: Arrays, row: int, example: Example) -> Any:
        """What `results` say of `example`, which is their `row`."""

    def agreement(self, expected: Any, got: Any) -> dict[str, Floats]:
        """By metric the values of an input: `got` beside the reference's answer."""

    def right(self, answer: Any, example: Example) -> dict[str, Floats]:
        """By metric of `of_labels`, flips left out, the values of an input: an answer beside the data's."""


def row_of(results: Arrays, name: str, row: int, rank: int) -> NDArray[Any]:
    """One input's part, of `rank` dimensions, of the output `name`, which may have no axis for several."""
    array = results[name]
    return array[row] if array.ndim > rank else array


class LabelHead:
    """Classes of whole inputs, from `output` [batch, classes]: the likeliest, or if `several` those above 0.

    Of `images` top-1 and top-5 are measured too; of five classes or fewer there is no top-5.
    """

    line: Kind | None = "text"

    def __init__(self, output: str, *, several: bool, images: bool, classes: int | None) -> None:
        self.outputs: tuple[str, ...] = (output,)
        self._several = several
        tops = ("top1_agreement", "top5_agreement") if images and not several else ()
        self.metrics: tuple[str, ...] = (
            "label_agreement",
            *(tops if classes is None or classes > _FIVE else tops[:1]),
        )
        self.of_labels: tuple[str, ...] = (LABEL_ACCURACY, *FLIPS)
        if images:
            self.line = None

    def answer(self, results: Arrays, row: int, example: Example) -> NDArray[Any]:
        return row_of(results, self.outputs[0], row, 1)

    def agreement(self, expected: NDArray[Any], got: NDArray[Any]) -> dict[str, Floats]:
        if expected.shape != got.shape:
            raise _other_labels(expected, got)
        if self._several:
            both = _finite(expected, got) and bool(((expected > 0) == (got > 0)).all())
            return {"label_agreement": _share(both)}
        same = _share(_finite(expected, got) and expected.argmax() == got.argmax())
        found = {"label_agreement": same, "top1_agreement": same}
        if "top5_agreement" in self.metrics:
            five, others = (np.argsort(-logits, kind="stable")[:_FIVE] for logits in (expected, got))
            found["top5_agreement"] = _share(_finite(expected, got) * np.isin(five, others).mean())
        return {metric: found[metric] for metric in self.metrics}

    def right(self, answer: NDArray[Any], example: Example) -> dict[str, Floats]:
        assert example.labels is not None
        if self._several:
            if example.labels.shape != answer.shape:
                raise BadInput(
                    f"labels of an input are {list(example.labels.shape)}, the model's {list(answer.shape)}",
                    hint="Where inputs may have several labels, give 0 or 1 for each class.",
                )
            same = bool(((answer > 0) == (example.labels != 0)).all())
        else:
            same = bool(answer.argmax() == _only_label(example.labels))
        return {LABEL_ACCURACY: _share(bool(np.isfinite(answer).all()) and same)}


class TokenHead:
    """Classes of tokens, from `output` [batch, S, classes]: the likeliest of each that counts."""

    line: Kind | None = "tokens"
    metrics: tuple[str, ...] = ("label_agreement",)
    of_labels: tuple[str, ...] = (LABEL_ACCURACY, *FLIPS)

    def __init__(self, output: str) -> None:
        self.outputs: tuple[str, ...] = (output,)

    def answer(self, results: Arrays, row: int, example: Example) -> NDArray[np.int64]:
        logits = row_of(results, self.outputs[0], row, 2)
        labels: NDArray[np.int64] = np.where(np.isfinite(logits).all(-1), logits.argmax(-1), _NOTHING)
        if example.labels is not None:
            labels[example.labels == NO_LABEL] = NO_LABEL
        kept: NDArray[np.int64] = labels[_places(example, len(labels)) & (labels != NO_LABEL)]
        return kept

    def agreement(self, expected: NDArray[Any], got: NDArray[Any]) -> dict[str, Floats]:
        if expected.shape != got.shape:
            raise _other_labels(expected, got)
        return {"label_agreement": ((expected == got) & (expected != _NOTHING)).astype(np.float64)}

    def right(self, answer: NDArray[Any], example: Example) -> dict[str, Floats]:
        assert example.labels is not None
        known = example.labels[_places(example, len(example.labels)) & (example.labels != NO_LABEL)]
        return {LABEL_ACCURACY: (answer == known).astype(np.float64)}


def _places(example: Example, length: int) -> NDArray[np.bool_]:
    return np.ones(length, np.bool_) if example.places is None else example.places


def _share(value: Any) -> Floats:
    return np.asarray([float(value)])


def _finite(*arrays: NDArray[Any]) -> bool:
    return all(bool(np.isfinite(array).all()) for array in arrays)


def _only_label(labels: NDArray[np.int64]) -> int:
    if labels.size != 1:
        raise BadInput(
            f"labels of an input are {list(labels.shape)}, and the model gives it one",
            hint="`labels` has one number for each example.",
        )
    return int(labels.item())


def _other_labels(expected: NDArray[Any], got: NDArray[Any]) -> BadInput:
    return BadInput(
        f"labels of the package are {list(got.shape)}, of the reference {list(expected.shape)}",
        hint="The two have different heads: compare a package with the model it was made from.",
    )
