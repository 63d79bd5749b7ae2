"""Speed of packages and of other folders that onnxruntime-genai can run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from graphopt.evaluate._foretold import foretelling_of
from graphopt.evaluate._measurable import Measurable
from graphopt.evaluate._speed import BenchReport, bench_on
from graphopt.package import Unchanged

__all__ = ["measure_speed"]


def measure_speed(
    folder: str | Path,
    against: str | Path | None = None,
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 64,
    threads: int | None = None,
    inputs: str | Path | None = None,
    **options: Any,
) -> BenchReport:
    """Measure the package at `folder`, in turns with `against`; options as for `graphopt.evaluate.bench`.

    Where this machine was profiled, the report says what the profile foretold, and both are kept.

    Both may be folders that another tool made for onnxruntime-genai. A package that does not generate text
    runs on `inputs`, an .npz file, or on a legal text of `prompt_tokens`, or on the largest legal call that
    its family knows.
    Raises `BadInput` where no input is known, a prompt of `prompt_tokens` leaves no room in the context, or a
    file changes meanwhile.
    """
    measurable = Measurable(folder, prompt_tokens=prompt_tokens, inputs=inputs)
    folders = [path for path in (folder, against) if path is not None]
    for path in folders:
        measurable.require(path)
    foretelling = foretelling_of(folder, threads) if measurable.generates else None
    with Unchanged(*folders) as unchanged:

        def look() -> None:
            unchanged.look()
            if foretelling is not None:
                foretelling.probe()

        found = bench_on(
            folder,
            against,
            measurable.inputs,
            look,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            threads=threads,
            **options,
        )
    if foretelling is None:
        return found
    measured = {metric: one.value for metric, one in found.speed.metrics.items()}
    return replace(found, foretold=foretelling.told(measured, prompt_tokens, new_tokens))
