"""Raw samples, a line of JSON for each document or block of processes: for pandas, jq and doubt."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from graphopt.report import GateReport, RawSample

__all__ = ["samples_jsonl"]


def samples_jsonl(report: GateReport) -> str:
    """A line for each document, block or exact value of each side: package, baseline, control.

    `metric`, `scope`, `kind` and `statistic` are those of `graphopt.report.RawSample`; `index` is the
    document's or block's, `name` the document's digest where it has one, `values` what was measured. Values
    that are not finite are strings.
    """
    return "".join(json.dumps(row, allow_nan=False) + "\n" for s in report.samples for row in _rows(s))


def _rows(sample: RawSample) -> Iterator[dict[str, Any]]:
    sides = {"package": sample.values, "baseline": sample.baseline, "control": sample.control}
    for side, lists in sides.items():
        for index, values in enumerate(lists or ()):
            yield {
                "metric": sample.metric,
                "scope": sample.scope,
                "kind": sample.kind,
                "statistic": sample.statistic,
                "side": side,
                "index": index,
                "name": sample.names[index] if index < len(sample.names) else "",
                "values": [_finite(value) for value in values],
            }


def _finite(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
