"""Per-token results of real packages, and of documents drawn from them as often as one likes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from graphopt import optimize
from graphopt.evaluate import measure_accuracy
from graphopt.metrics import Documents, Sample, infer
from graphopt.package import RunnablePackage

__all__ = ["METRICS", "Population", "measured"]

MODEL = "tiny-coder"
BLOCKS = (128, 32)
"""Columns that share a scale in the 4-bit packages: the package's and its baseline's."""
METRICS = ("kl_mean", "kl_p99", "perplexity_ratio", "top1_agreement", "flips_lost")
TOKENS = 1 << 20
"""More than the held-out text has: all of it."""


@dataclass(frozen=True)
class Population:
    """All documents that were measured, taken for all there are: so the truth is known."""

    documents: Documents

    def drawn(self, rng: np.random.Generator, count: int) -> Documents:
        """`count` documents, each as likely as any other, with both sides of it."""
        return self._these(rng.integers(0, len(self.documents.values), count).tolist())

    def drawn_tokens(self, rng: np.random.Generator, tokens: int) -> Documents:
        """Documents until there are `tokens` of them together, or just more."""
        lengths = np.asarray([len(values) for values in self.documents.values])
        chosen = rng.integers(0, len(lengths), 2 * len(lengths) + tokens)
        count = int(np.searchsorted(np.cumsum(lengths[chosen]), tokens)) + 1
        return self._these(chosen[:count].tolist())

    def scaled(self, ratio: float) -> Population:
        """The same, with all values of the package times one number: its true value is `ratio` times the
        baseline's."""
        factor = ratio / self.truth(relative=True)
        values = tuple(v * factor for v in self.documents.values)
        return Population(replace(self.documents, values=values))

    def truth(self, *, relative: bool) -> float:
        return infer(self.documents, relative=relative).value

    def _these(self, chosen: list[int]) -> Documents:
        assert self.documents.baseline is not None
        return replace(
            self.documents,
            values=tuple(self.documents.values[i] for i in chosen),
            baseline=tuple(self.documents.baseline[i] for i in chosen),
            names=(),
        )


def measured(folder: Path) -> Mapping[str, Population]:
    """By metric, of two 4-bit packages of tiny-coder against their source.

    What is in `folder` from an earlier run is used again: packages, and what was measured of them.
    """
    kept = folder / "tokens.npz"
    if not kept.is_file():
        _keep(kept, _measure(folder))
    with np.load(kept) as arrays:
        return {metric: Population(_read(arrays, metric)) for metric in METRICS}


def _keep(path: Path, samples: Iterable[Sample]) -> None:
    arrays = {}
    for sample in samples:
        evidence = sample.evidence
        assert isinstance(evidence, Documents)
        assert evidence.baseline is not None
        arrays[f"{sample.metric}.lengths"] = np.asarray([len(v) for v in evidence.values])
        arrays[f"{sample.metric}.values"] = np.concatenate(evidence.values)
        arrays[f"{sample.metric}.baseline"] = np.concatenate(evidence.baseline)
        arrays[f"{sample.metric}.statistic"] = np.asarray(evidence.statistic)
    np.savez_compressed(path, **arrays)


def _read(arrays: Mapping[str, np.ndarray], metric: str) -> Documents:
    cuts = np.cumsum(arrays[f"{metric}.lengths"])[:-1]
    values, baseline = (tuple(np.split(arrays[f"{metric}.{side}"], cuts)) for side in ("values", "baseline"))
    return Documents(values, baseline, str(arrays[f"{metric}.statistic"]))


def _measure(folder: Path) -> tuple[Sample, ...]:
    package, baseline = (_package(folder / f"int4-{block}", block) for block in BLOCKS)
    return measure_accuracy(
        package,
        MODEL,
        baseline,
        metrics=METRICS,
        data=None,
        tokens=TOKENS,
        trust_remote_code=False,
        say=lambda text: None,
    ).samples


def _package(path: Path, block: int) -> RunnablePackage:
    if not (path / "graphopt.json").is_file():
        optimize(MODEL, path, recipe="int4", settings=(f"quantize-weights.block_size={block}",))
    return RunnablePackage.load(path)
