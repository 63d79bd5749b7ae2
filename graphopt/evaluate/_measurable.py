"""What can be measured of a folder's speed, and on what inputs."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._bindings import SEED
from graphopt.evaluate._calls import domain_of
from graphopt.families import meeting
from graphopt.interface import adapt_feeds
from graphopt.io import nearest, read_arrays
from graphopt.metrics import METRICS
from graphopt.package import MANIFEST, RunnablePackage
from graphopt.plugins import adapter_from_json
from graphopt.runtime import SessionSettings, context_length

__all__ = ["GENAI", "SPEED_METRICS", "Measurable", "words"]

Feeds = Mapping[str, NDArray[Any]]
GENAI = "genai_config.json"
_ALWAYS = {"load_time", "memory", "peak_memory", "batch_tokens_per_second"}
_OF_TEXT = {"ttft", "tpot", "tpot_p90", "prefill_tokens_per_second", "decode_tokens_per_second"}
_OF_CALLS = {"first_call_time", "call_time", "call_time_p90", "calls_per_second"}

SPEED_METRICS = tuple(sorted((_ALWAYS | _OF_TEXT | _OF_CALLS) - {"batch_tokens_per_second"}))
"""What `bench` asks for; a package has the half of it that is of its kind."""


class Measurable:
    """How packages like the one at `package` are measured: by generated texts, or by calls.

    Calls are on `inputs`, an .npz file, or, where there is none, on a legal text of `prompt_tokens`, or else
    on the largest legal call that the family knows. `metrics` are the keys that are measured so. Raises
    `BadInput` where no input is known.
    """

    def __init__(
        self, package: str | Path, *, prompt_tokens: int = 256, inputs: str | Path | None = None
    ) -> None:
        self._prompt, self._given = prompt_tokens, inputs
        self.generates = inputs is None and _generates(Path(package))
        self._feeds: Feeds | None = None
        if not self.generates:
            self._feeds = (
                _legal_feeds(package, prompt_tokens) if inputs is None else read_arrays(Path(inputs))
            )
            self._scratch, self._files = Path(tempfile.mkdtemp()), 0
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        self.metrics = frozenset(_ALWAYS | (_OF_TEXT if self.generates else _OF_CALLS))
        if self._feeds is not None and "input_ids" not in self._feeds:
            self.metrics -= {"batch_tokens_per_second"}

    def require(self, folder: str | Path, metrics: Collection[str] = ()) -> None:
        """Raise `BadInput` where `folder` cannot be measured so, or one of `metrics` not."""
        path = Path(folder)
        if not (path / GENAI).is_file():
            RunnablePackage.load(path)
        if self.generates and not _generates(path):
            raise BadInput(f"{path} generates no text: it cannot be compared with a package that does")
        context = context_length(path)
        if self.generates and context is not None and self._prompt + 2 > context:
            raise BadInput(
                f"a prompt of {self._prompt} tokens leaves no room in {path}'s context of {context}"
            )
        for metric in metrics:
            if metric not in self.metrics:
                near = nearest(metric, self.metrics)
                known = near if metric not in METRICS and near else ", ".join(sorted(self.metrics))
                raise BadInput(f"the speed of {path} has no {metric}", hint=f"It has {known}.")

    def inputs(self, folder: str | Path) -> Path | None:
        """The file with what `folder` is called with; None where texts are generated."""
        if self._feeds is None or self._given is not None:
            return None if self._given is None else Path(self._given)
        there = (Path(folder) / MANIFEST).is_file()
        adapters = RunnablePackage.load(folder).manifest.adapters if there else ()
        self._files += 1
        path = self._scratch / f"{self._files}.npz"
        np.savez(path, **adapt_feeds([adapter_from_json(a) for a in adapters], self._feeds))  # type: ignore[arg-type]
        return path

    def called(self, package: RunnablePackage) -> Feeds:
        """What a `package` that is called gives."""
        inputs = self.inputs(package.path)
        assert inputs is not None
        return package.ready()(read_arrays(inputs))


def words(
    folder: str | Path,
    metrics: Collection[str],
    *,
    prompt_tokens: int,
    new_tokens: int,
    batch: int,
    inputs: str | Path | None,
    threads: int | None,
    session: SessionSettings | None = None,
) -> list[str]:
    """The command line of a worker, without what runs it.

    `threads` None: those that the package was measured to be fastest with here, or what the process may use.
    """
    said: dict[str, Any] = {
        "metrics": ",".join(metrics),
        "prompt": prompt_tokens,
        "new": new_tokens,
        "batch": batch,
        "threads": threads,
        "inputs": inputs,
        "session": None if session is None else session.model_dump_json(exclude_none=True),
    }
    return [
        str(folder),
        *(word for name, value in said.items() if value is not None for word in (f"--{name}", str(value))),
    ]


def _generates(folder: Path) -> bool:
    """Whether text can be generated: by onnxruntime-genai, or because the graph takes a cache."""
    if (folder / GENAI).is_file():
        return True
    graphs = RunnablePackage.load(folder).manifest.graphs
    return "model" in graphs and bool(graphs["model"].past())


def _legal_feeds(folder: str | Path, tokens: int) -> Feeds:
    """Of the source's interface: one text of `tokens`, where the family has such, or the largest call."""
    package = RunnablePackage.load(folder)
    domain = domain_of(package)
    if domain is None:
        raise BadInput(f"legal inputs of {folder} are unknown", hint="Give some with --inputs FILE.npz.")
    rng = np.random.default_rng(SEED)
    longest = tokens if domain.positions is None else min(tokens, domain.positions)
    for case in meeting(package.assumptions(), domain.longer(rng, longest)):
        return case.feeds
    cases = meeting(package.assumptions(), domain.cases(np.random.default_rng(SEED)))
    return max(cases, key=lambda case: sum(array.size for array in case.feeds.values())).feeds
