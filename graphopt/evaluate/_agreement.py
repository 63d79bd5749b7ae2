"""A package on several targets: each beside the source and beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._calls import calls_of_text, other_calls, takes_text
from graphopt.evaluate._closing import DISTRIBUTION
from graphopt.evaluate._corpus import Corpus, Window, built_in_corpus, read_corpus, sequences
from graphopt.evaluate._generations import PROMPT_TOKENS, agreement, answers
from graphopt.evaluate._language import TEXT_GENERATION
from graphopt.evaluate._precision import Precision, probed_precision
from graphopt.evaluate._sides import PackageSide, Side, side_of
from graphopt.evaluate._tokens import compare_tokens
from graphopt.evaluate._validation import CALLS, warnings_about
from graphopt.interface import Arrays
from graphopt.ir import infer_types, load_model
from graphopt.metrics import Estimate, bootstrap, cosine_similarity
from graphopt.package import RunnablePackage
from graphopt.plugins import registry
from graphopt.runtime import Completion, Tokenizer, context_length
from graphopt.targets import Target

__all__ = ["AgreedPair", "TargetAgreement", "compare_targets"]

SOURCE = "source"
"""What the model is called that the package was made from."""
PROMPTS = 24
"""Beginnings of the text that every side answers: see `graphopt.evaluate._language_run`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AgreedPair:
    """One side beside another, `reference`, by key of `graphopt.metrics.METRICS`, with 95 % intervals.

    Of texts: `kl_mean` is KL(reference || side), `top1_agreement` the share of tokens for which both hold the
    same for the likeliest, `greedy_agreement` the share of greedily chosen tokens before the first that
    differs. Of others: `cosine_mean` of rows, the least of the outputs', `cosine_min`, and `top1_agreement`
    of logits.
    """

    reference: str
    side: str
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class TargetAgreement:
    """A package on `targets`, which are named as they were asked for, and its source: all pairs of sides.

    `precision` is what each target computes float32 in, whatever the graph says.
    """

    package: str
    reference: str
    data: str
    targets: tuple[str, ...]
    pairs: tuple[AgreedPair, ...]
    precision: dict[str, Precision]
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON-able data, with `kind` "targets"."""
        return {"kind": "targets", **asdict(self)}


def compare_targets(
    package: RunnablePackage,
    reference: str | Path,
    targets: Sequence[str],
    *,
    data: Path | None = None,
    tokens: int = 4096,
    trust_remote_code: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> TargetAgreement:
    """Run `package` on each of `targets`, and its source `reference`, on the same `data`, and compare all.

    A target is a name, or NAME=PACKAGE where a package in another folder was made for it. `data` is as for
    `validate`. Raises `BadInput` for unknown targets, for a target that does not run the graph, and for
    packages that do not take the same inputs; `EnvironmentProblem` where a target is not installed.
    """
    sides: dict[str, Side] = {SOURCE: side_of(reference, package, trust_remote_code=trust_remote_code)}
    packages = {name: _on(package, name) for name in targets}
    sides |= {name: PackageSide(one) for name, one in packages.items()}
    say("trying what targets compute in")
    precision = {name: probed_precision(one.target()) for name, one in packages.items()}
    generates = package.manifest.task == TEXT_GENERATION
    on_text = generates or (takes_text(package) and (data is None or data.suffix != ".npz"))
    corpus = (read_corpus(data) if data else built_in_corpus()) if on_text else None
    found: _Found
    if generates and corpus is not None:
        found = _Texts(sides, corpus, package.path, tokens, say)
        name = corpus.name
    else:
        name, calls = _calls(package, corpus, data)
        found = _Calls(sides, calls, say)
    return TargetAgreement(
        str(package.path),
        str(reference),
        name,
        tuple(targets),
        tuple(found.pairs()),
        precision,
        warnings_about(reference, data) if corpus is not None else [],
    )


def _on(package: RunnablePackage, asked: str) -> RunnablePackage:
    """`package`, or the one that `asked` names behind its target, on that target."""
    name, _, folder = asked.partition("=")
    target: Target = registry.resolve("target", name, registry.targets())()
    target.diagnose().require(name)
    chosen = RunnablePackage.load(folder) if folder else package
    if chosen.manifest.task != package.manifest.task:
        raise BadInput(f"{chosen.path} is for {chosen.manifest.task}, {package.path} is not")
    found = chosen.on(name)
    if found.path != chosen.path or chosen.manifest.target.name == name:
        return found  # it was made for that target
    for graph in chosen.manifest.graphs.values():
        model = load_model(chosen.path / graph.file)
        infer_types(model)
        refused = target.capabilities().unsupported(model)
        if refused:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise BadInput(
                f"target {name!r} does not run {chosen.path}: {refused[0]}{more}",
                hint=f"Make a package for it, `graphopt optimize SOURCE --target {name} -o OUT`, and say"
                f" {name}=OUT.",
            )
    return found


def _calls(
    package: RunnablePackage, corpus: Corpus | None, data: Path | None
) -> tuple[str, Iterator[Arrays]]:
    if corpus is None:
        return other_calls(package, data)
    return corpus.name, (call.feeds for call in itertools.islice(calls_of_text(package, corpus), CALLS))


class _Found:
    """Values of each pair of sides by metric, an array for each document or call."""

    def __init__(self, names: Iterable[str]) -> None:
        self._values: dict[tuple[str, str], dict[str, list[Floats]]] = {
            pair: {} for pair in itertools.combinations(names, 2)
        }

    def add(self, pair: tuple[str, str], metric: str, values: Floats) -> None:
        self._values[pair].setdefault(metric, []).append(values)

    def pairs(self) -> Iterator[AgreedPair]:
        for (reference, side), values in self._values.items():
            metrics = {
                metric: bootstrap(blocks, _least if metric == "cosine_min" else _mean)
                for metric, blocks in values.items()
            }
            yield AgreedPair(reference, side, metrics)


class _Texts(_Found):
    """Causal language models on `tokens` tokens of `corpus`, and their answers to beginnings of it."""

    def __init__(
        self,
        sides: Mapping[str, Side],
        corpus: Corpus,
        folder: Path,
        tokens: int,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(sides)
        self._sides, self._folder, self._tokenizer = sides, folder, Tokenizer(folder)
        windows = list(sequences(corpus, self._tokenizer, tokens=tokens, context=context_length(folder)))
        if not windows:
            raise BadInput("the text is too short to measure on: it needs two tokens at least")
        documents: dict[str, dict[tuple[str, str], dict[str, list[Floats]]]] = {}
        for number, window in enumerate(windows, 1):
            say(f"text: {number} of {len(windows)}")
            self._compare(window, documents.setdefault(window.document, {}))
        for values in documents.values():
            for pair, metrics in values.items():
                for metric, parts in metrics.items():
                    self.add(pair, metric, np.concatenate(parts))
        say("answers")
        self._answers(windows[:PROMPTS])

    def _compare(self, window: Window, found: dict[tuple[str, str], dict[str, list[Floats]]]) -> None:
        logits = {name: side.logits(window.tokens) for name, side in self._sides.items()}
        names = list(logits)
        for i, reference in enumerate(names[:-1]):
            others = names[i + 1 :]
            compared = compare_tokens([logits[n] for n in others], logits[reference], window.tokens)
            for name, one in zip(others, compared, strict=True):
                metrics = found.setdefault((reference, name), {})
                metrics.setdefault("kl_mean", []).append(one.divergence)
                metrics.setdefault("top1_agreement", []).append(one.agreement)

    def _answers(self, windows: Sequence[Window]) -> None:
        opening, pieces = len(self._tokenizer.opening()), self._tokenizer.pieces
        prompts = [
            "".join(pieces().of(w.tokens[opening : opening + PROMPT_TOKENS].tolist())) for w in windows
        ]
        said: dict[str, list[Completion]] = {}
        for name, side in reversed(list(self._sides.items())):  # a source begins with what another answered
            said[name] = answers(side, prompts, next(iter(said.values()), ()), self._folder)
        for one, other in itertools.combinations(self._sides, 2):
            for expected, answer in zip(said[one], said[other], strict=True):
                self.add((one, other), "greedy_agreement", agreement(expected, answer))


class _Calls(_Found):
    """Models that generate no text, on the same calls."""

    def __init__(
        self, sides: Mapping[str, Side], calls: Iterable[Arrays], say: Callable[[str], None]
    ) -> None:
        super().__init__(sides)
        for number, feeds in enumerate(calls, 1):
            say(f"calls: {number}")
            results = {name: side.model(feeds) for name, side in sides.items()}
            for one, other in itertools.combinations(sides, 2):
                for metric, values in _rows(results[one], results[other]):
                    self.add((one, other), metric, values)


def _rows(expected: Arrays, got: Arrays) -> Iterator[tuple[str, Floats]]:
    """What is compared of a call: cosines of the output that is furthest off, and what logits choose."""
    cosines = [
        cosine_similarity(value, got.get(name, np.empty(0)))
        for name, value in expected.items()
        if np.issubdtype(value.dtype, np.floating) and value.ndim and value.size
    ]
    if cosines:
        furthest = min(cosines, key=lambda rows: float(rows.min()))
        yield "cosine_mean", furthest
        yield "cosine_min", furthest
    one, other = expected.get(DISTRIBUTION), got.get(DISTRIBUTION)
    if one is not None and other is not None and one.ndim > 1 and one.shape == other.shape and one.size:
        yield "top1_agreement", (one.argmax(-1) == other.argmax(-1)).astype(np.float64).ravel()


def _mean(values: Floats) -> float:
    return float(values.mean())


def _least(values: Floats) -> float:
    return float(values.min())
