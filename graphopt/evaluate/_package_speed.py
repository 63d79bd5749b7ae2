"""Speed of packages and of other folders that onnxruntime-genai can run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.evaluate._bindings import SEED
from graphopt.evaluate._speed import BenchReport, bench
from graphopt.evaluate._validation import domain_of
from graphopt.families import meeting
from graphopt.interface import adapt_feeds
from graphopt.package import RunnablePackage
from graphopt.plugins import adapter_from_json
from graphopt.runtime import context_length

__all__ = ["measure_speed"]

GENAI = "genai_config.json"


def measure_speed(
    folder: str | Path,
    against: str | Path | None = None,
    *,
    prompt_tokens: int = 256,
    inputs: str | Path | None = None,
    **options: Any,
) -> BenchReport:
    """Measure the package at `folder`, interleaved with `against`; options as for `graphopt.evaluate.bench`.

    Both may be folders that another tool made for onnxruntime-genai. A package that does not generate text
    runs on `inputs`, an .npz file, or on the largest batch of random legal inputs that its family knows.
    Raises `BadInput` where no input is known or a prompt of `prompt_tokens` leaves no room in the context.
    """
    for path in [Path(p) for p in (folder, against) if p is not None]:
        if not (path / GENAI).is_file():
            RunnablePackage.load(path)
        context = context_length(path)
        if context is not None and prompt_tokens + 2 > context:
            raise BadInput(
                f"a prompt of {prompt_tokens} tokens leaves no room in {path}'s context of {context}"
            )
    with tempfile.TemporaryDirectory() as scratch:
        if inputs is None and not _generates(Path(folder)):
            inputs = _legal_inputs(folder, scratch)
        return bench(folder, against=against, prompt_tokens=prompt_tokens, inputs=inputs, **options)


def _generates(folder: Path) -> bool:
    """Whether text can be generated: by onnxruntime-genai, or because the graph takes a cache."""
    if (folder / GENAI).is_file():
        return True
    graphs = RunnablePackage.load(folder).manifest.graphs
    return "model" in graphs and bool(graphs["model"].past())


def _legal_inputs(folder: str | Path, scratch: str) -> Path:
    package = RunnablePackage.load(folder)
    domain = domain_of(package)
    if domain is None:
        raise BadInput(f"legal inputs of {folder} are unknown", hint="Give some with --inputs FILE.npz.")
    cases = meeting(package.assumptions(), domain.cases(np.random.default_rng(SEED)))
    largest = max(cases, key=lambda case: sum(array.size for array in case.feeds.values()))
    feeds = adapt_feeds([adapter_from_json(a) for a in package.manifest.adapters], largest.feeds)
    path = Path(scratch) / "inputs.npz"
    np.savez(path, **feeds)  # type: ignore[arg-type]
    return path
