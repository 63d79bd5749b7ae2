"""What a runtime in an interpreter of its own runs, found out: each operator is tried in a graph of its own.

    graphopt targets doctor --probe NAME --write

writes the table of a target into its file. A node counts as run where the runtime compiles it, writes what
became of it, reads that, runs it, and gives what it should where that is known.
"""

from __future__ import annotations

import datetime
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graphopt.errors import EnvironmentProblem
from graphopt.runtime import RuntimeRefused, RuntimeWorker
from graphopt.targets import ForeignTarget, OperatorTables

from ._one_node import OneNode, one_node_graphs

_NEAR = 2e-2
"""Relative: what is further off than rounding to bfloat16 twice is another operator."""
_TRIES = 12
"""Graphs of one operator and version that are tried until one runs: attributes and types differ."""

_UNTRIED = "those of which there is no test are left to the runtime"

Forms = Mapping[tuple[str, str], Mapping[int, bool]]
"""By domain and operator, by version, whether a graph of it runs."""


def probed(target: ForeignTarget) -> Forms:
    """What was tried of operators, and whether the target's runtime runs it."""
    found: dict[Any, dict[int, bool]] = defaultdict(dict)
    tries: dict[Any, int] = defaultdict(int)
    with tempfile.TemporaryDirectory() as folder:
        trial = _Trial(target, Path(folder) / "model.onnx")
        for case in one_node_graphs():
            versions, key = found[case.domain, case.operator], (case.domain, case.operator, case.version)
            if versions.get(case.version) or tries[key] >= _TRIES:
                continue
            tries[key] += 1
            versions[case.version] = trial.runs(case)
        trial.close()
    return found


class _Trial:
    """A worker that is started anew when a graph ends it."""

    def __init__(self, target: ForeignTarget, path: Path) -> None:
        self._target, self._path = target, path
        self._worker: RuntimeWorker | None = None

    def runs(self, case: OneNode) -> bool:
        self._path.write_bytes(case.model.SerializeToString())
        settings = {**self._target.plain_settings(), "threads": 1}
        worker = self._worker = self._worker or self._target.worker()
        try:
            made = self._path.with_suffix(self._target.suffix)
            asked = {"source": str(self._path), "out": str(made), "settings": settings}
            worker.ask("call", {"function": "build", "arguments": asked})
            worker.ask("load", {"path": str(made), "settings": settings})
            found = worker.run(case.feeds, [output.name for output in case.model.graph.output])
        except RuntimeRefused:
            return False
        except EnvironmentProblem:
            self.close()
            return False
        return all(_near(array, found[name]) for name, array in case.expected.items())

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None


def _near(expected: NDArray[Any], got: NDArray[Any]) -> bool:
    if expected.shape != got.shape:
        return False
    if not np.issubdtype(expected.dtype, np.floating):
        return np.array_equal(expected, got)
    return np.allclose(got, expected, _NEAR, _NEAR, equal_nan=True)


def forms_of(domain: str, operator: str, versions: Mapping[int, bool]) -> Iterator[str]:
    """As `graphopt.targets.KernelForm` reads them: versions but those that failed; neighbours are one.

    None where all that were tried failed. What was not tried is left to the runtime, which is asked when a
    graph is compiled.
    """
    if versions and not any(versions.values()):
        return
    every = sorted(
        s.since_version
        for s in onnx.defs.get_all_schemas_with_history()
        if (s.domain, s.name) == (domain, operator)
    ) or [1]
    first = None
    for at, since in enumerate([*every, 0]):
        runs = since and versions.get(since, True)
        if runs and first is None:
            first = since
        elif not runs and first is not None:
            yield f"{first}+" if not since else f"{first}-{since - 1}" if since - 1 > first else f"{first}"
            first = None
        if not at < len(every):
            return


def tables(target: ForeignTarget) -> OperatorTables:
    """What the runtime of `target` runs, as its description has it."""
    found, facts, written = probed(target), target.fingerprint(), target.description.operators
    schemas = {(s.domain, s.name) for s in onnx.defs.get_all_schemas() if not s.domain}
    every: dict[tuple[str, str], Mapping[int, bool]] = {**{key: {} for key in schemas}, **found}
    domains: dict[str, dict[str, tuple[str, ...]]] = {}
    for (domain, operator), versions in sorted(every.items()):
        if forms := tuple(forms_of(domain, operator, versions)):
            domains.setdefault(domain or "ai.onnx", {})[operator] = forms
    return OperatorTables(
        source=f"each operator tried alone (graphopt targets doctor --probe {target.name}); {_UNTRIED}",
        version=" ".join(f"{k} {v}" for k, v in facts.items() if k not in ("threads", "processor")),
        date=datetime.date.today(),
        types=written.types if written is not None else {},
        rules=written.rules if written is not None else {},
        refused=written.refused if written is not None else {},
        domains=domains,
    )
