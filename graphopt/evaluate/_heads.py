"""How far a package of a model with a head is from its reference: labels, answers, objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput, CheckFailed
from graphopt.evaluate._calls import domain_of
from graphopt.evaluate._detection import detection_head
from graphopt.evaluate._example_lines import TextLabels, read_lines
from graphopt.evaluate._examples import Example, Examples, random_examples, read_examples
from graphopt.evaluate._head import LABEL_ACCURACY, Head, LabelHead, TokenHead
from graphopt.evaluate._samples import AccuracySamples
from graphopt.evaluate._sequences import CtcHead, PixelHead
from graphopt.evaluate._sides import side_of
from graphopt.evaluate._spans import SpanHead
from graphopt.interface import Arrays, Interface, Model, TensorSpec
from graphopt.io import read_json
from graphopt.metrics import Documents, Sample, Statistic, mean_average_precision
from graphopt.package import RunnablePackage
from graphopt.runtime import Tokenizer

__all__ = ["HEAD_METRICS", "head_metrics", "measure_heads"]

Floats = NDArray[np.float64]

HEAD_METRICS = frozenset(
    {
        *("label_agreement", "top1_agreement", "top5_agreement", "span_agreement", "mean_average_precision"),
        *("mean_iou", "character_error_rate", "word_error_rate", "label_accuracy", "flips_lost", "flips_won"),
    }
)
"""What `measure_heads` measures; flips and top-1 are those of tokens where text is generated."""
LABELS = "labels"
"""The scope of what was measured against the data's labels, not against the reference."""
_STATISTICS: dict[str, Statistic] = {"mean_average_precision": "average_precision"}
_WAVE = "input_values"
"""The input of models that read speech as it is."""
_WITHOUT_LABELS = ("text-generation", "fill-mask", "feature-extraction", "sentence-similarity")
"""Tasks whose outputs are judged as distributions or by their direction, not by a label."""


def head_metrics(package: RunnablePackage) -> tuple[str, ...]:
    """The metrics of `package`'s head that need no labels; none where it has no head that is known."""
    head = _head(package)
    return () if head is None else head.metrics


def measure_heads(
    package: RunnablePackage,
    reference: str | Path,
    baseline: RunnablePackage | None,
    *,
    metrics: Collection[str],
    data: Path | None,
    trust_remote_code: bool,
    say: Callable[[str], None],
) -> AccuracySamples:
    """Measure `metrics` of the heads of `package` and `baseline` against `reference` and the data's labels.

    `reference` is a source or the folder of a package. `data` is an .npz file (inputs by name, `labels`,
    and of objects `boxes` by corners in the outputs' unit, both filled up with label -1), or of text a .jsonl
    or .txt file; without it inputs are drawn at random. An example is a document of the evidence. Its values
    are 0 or 1 for itself or each of its tokens, in `mean_average_precision` the rows of `detection_rows`,
    which any resampling of images can be made of. Domains of the data have samples of their own besides.
    What is counted against labels has the scope "labels", and the reference's own count as its baseline where
    no other is given; with labels, mean average precision is of them and not of what the reference finds.

    Raises `BadInput` for a metric that this head does not have or that needs labels which are not there, and
    `CheckFailed` where the package lacks an output of the head.
    """
    head = _head(package)
    if head is None:
        raise BadInput(
            f"{package.path} has no head whose answers are known",
            hint="Its outputs are " + ", ".join(spec.name for spec in package.interface().outputs) + ".",
        )
    examples = _examples(package, head, data)
    asked = _asked(head, examples, metrics, package.path)
    count = sum(len(call.examples) for call in examples.calls)
    say(f"{', '.join(asked)} on {count} examples of {examples.name}")
    same = baseline is not None and Path(reference).resolve() == baseline.path.resolve()
    sides = _Sides(
        head,
        side_of(reference, package, trust_remote_code=trust_remote_code).model,
        package.as_source(),
        baseline.as_source() if baseline is not None and not same else None,
        same,
    )
    found = _Found()
    twice = 0
    for call in examples.calls:
        results = sides.run(call.feeds)
        for row, example in enumerate(call.examples):
            if example.name in found.names:
                twice += 1
                continue
            found.names.append(example.name)
            found.domains.append(example.domain)
            for key, values in _values(sides, results, row, example, examples.labelled).items():
                found.values.setdefault(key, []).append(values)
    notes = (*examples.notes, *((f"{twice} examples are there twice and count once",) if twice else ()))
    samples = tuple(found.samples(asked))
    return AccuracySamples(samples, examples.name, examples.digest, notes=notes)


def _head(package: RunnablePackage) -> Head | None:
    interface, task = package.interface(), package.manifest.task
    file = package.path / "config.json"
    config = read_json(file) if file.is_file() else {}
    if interface.output("start_logits") is not None and interface.output("end_logits") is not None:
        return SpanHead()
    if task in _WITHOUT_LABELS or "model" not in package.manifest.graphs:
        return None
    found = detection_head(interface, config)
    if found is not None:
        return found
    logits = interface.output("logits") or (interface.outputs[0] if len(interface.outputs) == 1 else None)
    if logits is None or not logits.dtype.startswith("float"):
        return None
    if len(logits.dims) == 4:
        return PixelHead(logits.name)
    if len(logits.dims) == 3 and interface.input("input_ids") is not None:
        return TokenHead(logits.name)
    if len(logits.dims) == 3 and interface.input(_WAVE) is not None:
        return CtcHead(logits.name, int(config.get("pad_token_id") or 0), _word_delimiter(package.path))
    return _label_head(logits, interface, config) if len(logits.dims) in (1, 2) else None


def _word_delimiter(folder: Path) -> int | None:
    """The letter between two words, as the files of a CTC tokenizer say; None where they do not."""
    vocabulary, settings = (
        read_json(file) if (file := folder / name).is_file() else {}
        for name in ("vocab.json", "tokenizer_config.json")
    )
    found = vocabulary.get(settings.get("word_delimiter_token", "|"))
    return found if isinstance(found, int) else None


def _label_head(logits: TensorSpec, interface: Interface, config: Mapping[str, Any]) -> LabelHead | None:
    classes = logits.dims[-1]
    kind = config.get("problem_type")
    if kind == "regression" or classes == 1:
        return None
    images = any(spec.dtype.startswith("float") and len(spec.dims) in (3, 4) for spec in interface.inputs)
    return LabelHead(
        logits.name,
        several=kind == "multi_label_classification",
        images=images,
        classes=classes if isinstance(classes, int) else None,
    )


def _examples(package: RunnablePackage, head: Head, data: Path | None) -> Examples:
    interface = package.interface()
    if data is None:
        return random_examples(package, domain_of(package))
    if data.suffix == ".npz":
        return read_examples(data, interface)
    if head.line is None or interface.input("input_ids") is None:
        raise BadInput(f"{data}: the model takes no text", hint="Give its inputs with --data FILE.npz.")
    file, domain = package.path / "config.json", domain_of(package)
    config = read_json(file) if file.is_file() else {}
    several = config.get("problem_type") == "multi_label_classification"
    return read_lines(
        data,
        head.line,
        tokenizer=Tokenizer(package.path),
        interface=interface,
        labels=TextLabels(config, several=several),
        positions=None if domain is None else domain.positions,
    )


def _asked(head: Head, examples: Examples, metrics: Collection[str], path: Path) -> list[str]:
    """Those of `metrics`, each of which the head has and the data can tell."""
    known = (*head.metrics, *(head.of_labels if examples.labelled else ()))
    for metric in metrics:
        if metric in known:
            continue
        if metric in head.of_labels:
            raise BadInput(
                f"{metric} needs labels, and {examples.name} has none", hint="Give some with --data FILE."
            )
        raise BadInput(f"{path} has no {metric}", hint=f"Its head has {', '.join(dict.fromkeys(known))}.")
    return list(dict.fromkeys(metrics))


@dataclass(frozen=True)
class _Sides:
    """The models that are compared; where the baseline is the reference it is not run twice."""

    head: Head
    reference: Model
    package: Model
    baseline: Model | None
    baseline_is_reference: bool

    def run(self, feeds: Arrays) -> tuple[Arrays, Arrays, Arrays | None]:
        """Results of the reference, the package, and the baseline if there is one."""
        expected, got = self.reference(feeds), self.package(feeds)
        missing = [name for name in self.head.outputs if name not in got]
        if missing:
            raise CheckFailed(f"the package gives no {missing[0]}: its outputs are {', '.join(got)}")
        if self.baseline_is_reference:
            return expected, got, expected
        return expected, got, None if self.baseline is None else self.baseline(feeds)


Key = tuple[str, str, bool]
"""Metric, scope, and whether of the baseline."""


def _values(
    sides: _Sides,
    results: tuple[Arrays, Arrays, Arrays | None],
    row: int,
    example: Example,
    labelled: bool,
) -> dict[Key, Floats]:
    """What one example says of package and baseline."""
    head = sides.head
    expected = head.answer(results[0], row, example)
    right = head.right(expected, example) if labelled else {}
    found: dict[Key, Floats] = {(metric, LABELS, True): values for metric, values in right.items()}
    for side, is_baseline in ((results[1], False), (results[2], True)):
        if side is None:
            continue
        got = head.answer(side, row, example)
        for metric, values in head.agreement(expected, got).items():
            if metric not in right:
                found[metric, "", is_baseline] = values
        own = head.right(got, example) if labelled else {}
        for metric, values in own.items():
            found[metric, LABELS, is_baseline] = values
        if LABEL_ACCURACY in own:
            mine, theirs = own[LABEL_ACCURACY], right[LABEL_ACCURACY]
            found["flips_lost", LABELS, is_baseline] = theirs * (1 - mine)
            found["flips_won", LABELS, is_baseline] = mine * (1 - theirs)
    return found


@dataclass
class _Found:
    names: list[str] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)
    values: dict[Key, list[Floats]] = field(default_factory=dict)

    def samples(self, asked: Collection[str]) -> Iterator[Sample]:
        """Of each metric that is asked for: of everything, and of each domain if there are several."""
        domains = sorted(set(self.domains))
        for metric, scope, is_baseline in self.values:
            if is_baseline or metric not in asked:
                continue
            yield self._sample(metric, scope, scope, range(len(self.names)))
            if scope == "" and len(domains) > 1:
                for domain in domains:
                    own = [i for i, name in enumerate(self.domains) if name == domain]
                    yield self._sample(metric, scope, f"domain {domain}", own)

    def _sample(self, metric: str, scope: str, title: str, chosen: Collection[int]) -> Sample:
        def of(is_baseline: bool) -> tuple[Floats, ...]:
            values = self.values[metric, scope, is_baseline]
            return tuple(values[i] for i in chosen)

        statistic = _STATISTICS.get(metric, "mean")
        if statistic == "average_precision" and np.isnan(mean_average_precision(of(False))):
            raise BadInput(
                "no image has an object: there is nothing to be found",
                hint="Give images in which the reference is sure of objects with --data FILE.npz.",
            )
        documents = Documents(
            of(False),
            of(True) if (metric, scope, True) in self.values else None,
            statistic,
            tuple(self.names[i] for i in chosen),
        )
        return Sample(metric, documents, title)
