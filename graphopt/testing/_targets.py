"""What every target promises, checked on the graphs that ship with graphopt."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from graphopt.errors import BadInput, GraphoptError
from graphopt.ir import parse
from graphopt.pipeline import Contract
from graphopt.plugins import registry
from graphopt.recipes import Budget, Recipe
from graphopt.targets import Target
from graphopt.testing._example import Example, corpus, specified
from graphopt.testing._execution import outputs, session
from graphopt.verify import compare, tolerance_of

__all__ = ["check_target"]

_UNKNOWN = """<ir_version: 10, opset_import: ["" : 23, "no.such.domain" : 1]>
g (float[N] x) => (float[N] y) { a = Neg(x)  y = no.such.domain.NoSuchOperator(a) }
"""
_LONGEST_SUM = 256
"""Terms of the longest sum in the graphs that ship with graphopt: tolerances grow by its root."""


def check_target(cls: type[Target]) -> list[str]:
    """What is wrong with a target, in words; an empty list where nothing is.

    It has to be the installed one of its name; lower with passes that are installed; have a fingerprint of
    texts that stays the same; name `libraries` that are installed; compile every graph at opset 23 that ships
    with graphopt into a file whose session gives the same results up to the order of sums; and refuse, by
    name, a node of an operator that is not there, writing nothing.
    """
    if registry.targets().get(cls.name) is not cls:
        raise BadInput(
            f"the target {cls.name!r} is not the installed one",
            hint="Install its distribution first: pip install -e .",
        )
    target = cls()
    return [
        *_lowering(target),
        *_fingerprint(target),
        *_libraries(target),
        *_refusal(target),
        *_results(target),
    ]


def _lowering(target: Target) -> Iterator[str]:
    for step in target.lowering(Recipe("", "", Budget(), ())):
        try:
            registry.resolve("pass", step.name, registry.passes()).configure(step.options)
        except GraphoptError as error:
            yield f"lowering: {error}"


def _fingerprint(target: Target) -> Iterator[str]:
    found = target.fingerprint()
    if not all(isinstance(text, str) for text in (*found, *found.values())):
        yield f"fingerprint: not only texts: {json.dumps(found, default=str)}"
    if not found or target.fingerprint() != found:
        yield "fingerprint: empty, or another one each time"


def _libraries(target: Target) -> Iterator[str]:
    for name in sorted(target.libraries):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield f"libraries: no distribution {name!r} is installed"


def _refusal(target: Target) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            target.compile(parse(_UNKNOWN), Path(folder, "model.onnx"))
        except BadInput as error:
            if "y/NoSuchOperator" not in str(error):
                yield f"refusal: does not name the node: {error}"
        else:
            yield "refusal: it compiled a graph with an operator that does not exist"
        if any(Path(folder).iterdir()):
            yield "refusal: it left files behind"


def _results(target: Target) -> Iterator[str]:
    for example in corpus():
        if example.model().opset_imports[""] == 23:
            yield from _result(target, example)


def _result(target: Target, example: Example) -> Iterator[str]:
    tolerance = tolerance_of(Contract.reassociates(), length=_LONGEST_SUM)
    reference = session(example.model())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        try:
            report = target.compile(example.model(), path)
            made = target.session(path, threads=1)
        except GraphoptError as error:
            yield f"compile: {example}: {error}"
            return
        if report.nodes < 1 or report.bytes < path.stat().st_size:
            yield f"compile: {example}: the report says {report}"
        for case in example.cases():
            expected, got = outputs(reference, case.feeds), outputs(made, case.feeds)
            for name, array in expected.items():
                verdict = compare(*specified(array, got[name], case.compare.get(name)), tolerance)
                if not verdict:
                    yield f"results: {example}: {name} at {case.name}: {verdict.reason}"
