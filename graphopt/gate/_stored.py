"""Result files of earlier gates: what was measured then, beside what is measured now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from graphopt.errors import BadInput
from graphopt.evaluate import census, census_differences
from graphopt.gate._provenance import interface_texts
from graphopt.metrics import Documents, Exact, Sample, Turns
from graphopt.package import RunnablePackage
from graphopt.report import GateReport, RawSample

__all__ = ["beside_stored", "changes_since", "raw_samples"]


def raw_samples(samples: Iterable[Sample]) -> list[RawSample]:
    """`samples` as a result file holds them."""
    return [_raw(sample) for sample in samples]


def beside_stored(samples: Sequence[Sample], result: GateReport, text: str) -> tuple[Sample, ...]:
    """`samples` with what the package of `result` came to as their baseline, where it was measured.

    `BadInput` where that was on other documents. `text` is what to call the file.
    """
    stored = {(one.metric, one.scope): one for one in result.samples}
    return tuple(
        _paired(sample, one, text) if (one := stored.get((sample.metric, sample.scope))) else sample
        for sample in samples
    )


def changes_since(package: RunnablePackage, result: GateReport) -> dict[str, list[str]]:
    """By the key of the metric that counts them: how the graphs of `package` differ from those of `result`,
    in words."""
    now, then = interface_texts(package), result.provenance.interface
    interface = [f"{name} is gone" for name in then if name not in now]
    interface += [f"{name} is new" for name in now if name not in then]
    interface += [f"{n} is {now[n]}, was {then[n]}" for n in now if n in then and now[n] != then[n]]
    kinds = census_differences(census(package), result.provenance.census)
    return {"interface_changes": interface, "census_changes": kinds}


def _raw(sample: Sample) -> RawSample:
    evidence = sample.evidence
    if isinstance(evidence, Exact):
        before = None if evidence.baseline is None else [[evidence.baseline]]
        return RawSample(
            metric=sample.metric, scope=sample.scope, kind="exact", values=[[evidence.value]], baseline=before
        )
    if isinstance(evidence, Turns):
        return RawSample(
            metric=sample.metric,
            scope=sample.scope,
            kind="turns",
            values=evidence.values.tolist(),
            baseline=None if evidence.baseline is None else evidence.baseline.tolist(),
            control=None if evidence.control is None else evidence.control.tolist(),
        )
    return RawSample(
        metric=sample.metric,
        scope=sample.scope,
        kind="documents",
        statistic=evidence.statistic,
        names=list(evidence.names),
        values=[values.tolist() for values in evidence.values],
        baseline=None if evidence.baseline is None else [values.tolist() for values in evidence.baseline],
    )


def _paired(sample: Sample, stored: RawSample, text: str) -> Sample:
    evidence = sample.evidence
    if isinstance(evidence, Exact) and stored.kind == "exact":
        return replace(sample, evidence=replace(evidence, baseline=stored.values[0][0]))
    if not isinstance(evidence, Documents) or stored.kind != "documents":
        return sample
    by_name = dict(zip(stored.names, stored.values, strict=True))
    missing = sum(name not in by_name for name in evidence.names)
    if missing or any(
        len(by_name[n]) != len(v) for n, v in zip(evidence.names, evidence.values, strict=True)
    ):
        raise BadInput(
            f"{text} was measured on other text: {missing} of {len(evidence.names)} documents are not in it",
            hint="Give both the same --data and --tokens, or a package as --baseline.",
        )
    baseline = tuple(np.asarray(by_name[name], np.float64) for name in evidence.names)
    return replace(sample, evidence=replace(evidence, baseline=baseline))
