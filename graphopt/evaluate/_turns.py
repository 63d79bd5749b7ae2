"""Speed of a package and of what it is compared with, as evidence for a gate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from graphopt.errors import BadInput
from graphopt.evaluate._blocks import BASELINE, CONTROL, PACKAGE, Blocks
from graphopt.evaluate._measurable import Measurable, words
from graphopt.evaluate._measurement import Measurement
from graphopt.metrics import Sample
from graphopt.package import Unchanged

__all__ = ["SpeedTurns"]


class SpeedTurns:
    """Blocks of fresh processes in which package, baseline and the package once more take turns there and
    back (A B C C B A), the first of them another in each block.

    `metrics` are keys of `graphopt.metrics.METRICS` that `Measurable.metrics` has; others are not measured
    where that would take time. Folders are packages, or what another tool made for onnxruntime-genai.
    A text is a prompt of `prompt_tokens` random tokens and `new_tokens` more; other models are called as
    often, or for half a second, on `inputs`, an .npz file (default: a legal text of `prompt_tokens`, or the
    largest legal call that the family knows). In a `batch` of generated texts these share the
    `prompt_tokens`; a batch of calls is the input's rows again and again. Everyone has the same `threads`
    where they are given; else each has what it was tuned to, or what the process may use. `say` is told each
    block.

    `blocks` counts those that are done, `seconds` what they took together. Raises `BadInput` for metrics that
    are not measured of such a package, folders that cannot be compared, and a file that changes meanwhile
    (`unchanged` is who watches them, if someone does already); `EnvironmentProblem` where a process fails.
    """

    def __init__(
        self,
        package: str | Path,
        baseline: str | Path | None = None,
        *,
        metrics: Collection[str],
        prompt_tokens: int = 256,
        new_tokens: int = 64,
        batch: int = 8,
        inputs: str | Path | None = None,
        threads: int | None = None,
        say: Callable[[str], None] = lambda _: None,
        unchanged: Unchanged | None = None,
    ) -> None:
        folders = {PACKAGE: package, BASELINE: baseline, CONTROL: package}
        measurable = Measurable(package, prompt_tokens=prompt_tokens, inputs=inputs)
        sides = {}
        for side, folder in folders.items():
            if folder is not None:
                measurable.require(folder, metrics)
                sides[side] = words(
                    folder,
                    metrics,
                    prompt_tokens=prompt_tokens,
                    new_tokens=new_tokens,
                    batch=batch,
                    inputs=measurable.inputs(folder),
                    threads=threads,
                )
        self._measurable = measurable  # whose inputs last as long as it does
        self._metrics = tuple(metrics)
        self._say = say
        watched = unchanged or Unchanged(*(folder for folder in folders.values() if folder is not None))
        self._blocks = Blocks(sides, watched.look)

    @property
    def blocks(self) -> int:
        return self._blocks.blocks

    @property
    def seconds(self) -> float:
        return self._blocks.seconds

    @property
    def measurements(self) -> Mapping[str, Sequence[Sequence[Measurement]]]:
        """What each process said, by side ("package", "baseline", "control") and block."""
        return self._blocks.found

    def add_block(self) -> None:
        """Measure each side twice more; before the first block, also once that does not count."""
        self._say(f"speed: block {self.blocks + 1}")
        self._blocks.add()

    def samples(self) -> tuple[Sample, ...]:
        """What the blocks so far say of each metric. Raises `BadInput` before the first."""
        if not self.blocks:
            raise BadInput("speed was not measured yet", hint="add_block first.")
        return tuple(Sample(metric, self._blocks.turns(metric)) for metric in self._metrics)
