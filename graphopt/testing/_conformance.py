"""Holding passes to their promises on a corpus, on generated graphs and on a file beyond 2 GiB."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.pipeline import Pass
from graphopt.plugins import registry
from graphopt.testing._elsewhere import examples_of, passes_of, unstable
from graphopt.testing._example import Example, corpus
from graphopt.testing._others import others
from graphopt.testing._promises import Broken, check
from graphopt.testing._sparse import SparseFile
from graphopt.testing.golden import Golden
from graphopt.verify import KernelWorker

__all__ = ["Conformance", "Problem", "check_distribution", "check_pass"]

_GENERATED = 40
"""Graphs made for each pass. A judgement: the built-in passes' check stays within minutes."""
_IN_OTHERS = 4
"""Of how many graphs that a pass changed it meets the others: other types, opsets and users of weights."""


@dataclass(frozen=True)
class Problem:
    """A promise that a pass broke, on which graph (`text`, in ONNX's textual syntax), and how."""

    promise: str
    graph: str
    said: str
    text: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.said}\n  on {self.graph}:\n{self.text}"


@dataclass
class Conformance:
    """How the pass `name` did: graphs it was run over, how many of them it changed, promises it broke."""

    name: str
    graphs: int = 0
    changed: int = 0
    problems: list[Problem] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.problems


def check_distribution(name: str, progress: Callable[[str], None] | None = None) -> list[Conformance]:
    """Check every pass that the installed distribution `name` brings, starting from its examples.

    `progress` is told the name of each before. Raises `BadInput` where there is no such plugin or it brings
    no pass, `EnvironmentProblem` without hypothesis.
    """
    passes = passes_of(name)
    if not passes:
        raise BadInput(f"distribution {name!r} brings no passes")
    found = []
    with KernelWorker() as kernels:
        for cls in passes:
            if progress is not None:
                progress(cls.name)
            found.append(_check_pass(cls, examples_of(name, cls), _GENERATED, kernels))
    differing = unstable(name)
    for conformance in found:
        example = differing.get(conformance.name)
        if example is not None:
            said = "processes that order sets of texts in other ways make other graphs"
            conformance.problems.append(_problem(Broken("deterministic", example, said)))
    return found


def check_pass(
    cls: type[Pass], examples: Sequence[Golden] = (), *, generated: int = _GENERATED
) -> Conformance:
    """Check an installed pass on its `examples`, on graphs that ship with graphopt and on generated ones.

    Each of the pass's golden files has to hold, and the promises (`graphopt.testing.PROMISES`) on every
    graph; `generated` is how many graphs hypothesis makes, the same in every run, from scratch and from
    those that the pass changed. A pass that changes no graph at all has shown nothing, which is a problem
    too, unless it only decides. At most one problem is told for the golden files, one for the corpus, one for
    what the first of its graphs are otherwise, one for generated graphs and one for the big file.
    """
    with KernelWorker() as kernels:
        return _check_pass(cls, examples, generated, kernels)


def _check_pass(
    cls: type[Pass], examples: Sequence[Golden], generated: int, kernels: KernelWorker
) -> Conformance:
    if registry.passes().get(cls.name) is not cls:
        raise BadInput(
            f"the pass {cls.name!r} is not the installed one",
            hint="Install its distribution first: pip install -e .",
        )
    found = Conformance(cls.name)
    examples = [golden for golden in examples if _is_readable(found, golden)]
    _check_goldens(found, examples)
    with tempfile.TemporaryDirectory() as folder:
        hold = partial(_check_one, cls, found, kernels)
        changed = _check_each(hold, found, [*examples, *corpus()])
        bases = changed[:_IN_OTHERS]
        lossy = cls.contract.kind == "lossy"
        _check_each(hold, found, (other for base in bases for other in others(base, lossy=lossy)))
        _check_generated(hold, found, changed, generated)
        _check_each(hold, found, [SparseFile.write(Path(folder))])
    if not found.changed and not found.problems and not cls.decides_only:
        said = f"it changed none of {found.graphs} graphs; give it examples that it changes"
        found.problems.append(Problem("applies", "all", said, ""))
    return found


def _is_readable(found: Conformance, golden: Golden) -> bool:
    """Whether its graph and its header can be read, which is a problem where they cannot."""
    try:
        golden.model(), golden.options(found.name), next(golden.cases(), None)
    except Exception as error:
        said = f"it cannot be read: {type(error).__name__}: {error}"
        found.problems.append(Problem("examples", str(golden), said, golden.before))
        return False
    return True


def _check_goldens(found: Conformance, examples: Sequence[Golden]) -> None:
    for golden in examples:
        try:
            golden.check()
        except AssertionError as error:
            found.problems.append(Problem("examples", str(golden), str(error), golden.before))
            return


def _check_one(cls: type[Pass], found: Conformance, kernels: KernelWorker, example: Example) -> bool:
    found.graphs += 1
    changed = check(cls, example, kernels)
    found.changed += changed
    return changed


def _check_each(
    hold: Callable[[Example], bool], found: Conformance, examples: Iterable[Example]
) -> list[Example]:
    """Check every example, up to the first that fails; those that the pass changed."""
    changed = []
    for example in examples:
        try:
            if hold(example):
                changed.append(example)
        except Broken as broken:
            found.problems.append(_problem(broken))
            break
    return changed


def _check_generated(
    hold: Callable[[Example], bool], found: Conformance, bases: Sequence[Example], count: int
) -> None:
    try:
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import strategies as st
    except ImportError as error:
        raise EnvironmentProblem(
            "checking passes needs hypothesis", hint="pip install 'graphopt[testing]'"
        ) from error
    from graphopt.testing._programs import programs
    from graphopt.testing._variants import variant

    graphs = programs()
    if bases:
        surroundings = (st.none() | st.integers(0, 20), st.booleans(), st.booleans())
        graphs |= st.builds(variant, st.sampled_from(bases), *surroundings)

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(graphs)
    def every(example: Example) -> None:
        hold(example)

    try:
        every()
    except Broken as broken:
        found.problems.append(_problem(broken))


def _problem(broken: Broken) -> Problem:
    from graphopt.ir import text

    return Problem(broken.promise, str(broken.example), broken.said, text(broken.example.model()).strip())
