"""What the portable target makes of models: ONNX's own operators, the same on its reference evaluator."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphopt_targets.portable import PortableTarget
from onnx.reference import ReferenceEvaluator

import graphopt
from graphopt.ir import to_proto
from graphopt.runtime import plain_options, session_of
from tests.corpus.graphs import FOLDER, domain_of, lower
from tests.corpus.graphs import read as read_graph

GRAPHS = [
    pytest.param(path, marks=() if number % 5 == 0 else pytest.mark.long, id=path.stem)
    for number, path in enumerate(sorted(FOLDER.glob("*.txt")))
]
"""Every fifth in `make test`, all in `make test-long`."""


def as_it_stands(model: onnx.ModelProto, feeds: dict[str, Any], names: list[str]) -> list[Any]:
    return session_of(model.SerializeToString(), options=plain_options()).run(names, feeds)


@pytest.mark.parametrize("path", GRAPHS)
def test_a_family_is_the_same_on_onnxs_reference_evaluator_and_without_optimizations(path: Path) -> None:
    header, model = read_graph(path)
    original, domain = to_proto(model), domain_of(model, header)
    lower(model, header, "portable")
    assert PortableTarget().capabilities().unsupported(model) == []
    made = to_proto(model)
    reference = ReferenceEvaluator(made)
    for case in domain.cases(np.random.default_rng(0)):
        names, feeds = list(case.compare), dict(case.feeds)
        expected = as_it_stands(original, feeds, names)
        if "logits_to_keep" in model.graph.initializers:
            feeds["logits_to_keep"] = np.asarray([feeds["input_ids"].shape[1]])
        with np.errstate(all="ignore"):  # its Sigmoid takes exp of large numbers
            evaluated = reference.run(names, feeds)
        for found in (as_it_stands(made, feeds, names), evaluated):
            for name, one, other in zip(names, expected, found, strict=True):
                chosen = np.broadcast_to(case.compare[name], one.shape)
                difference = np.abs(other - one)[chosen].max(initial=0)
                assert difference <= 1e-3 * one[chosen].std(), (case.name, name)


@pytest.mark.parametrize(
    "recipe", ["lossless", *(pytest.param(name, marks=pytest.mark.long) for name in ("int4", "int8"))]
)
def test_a_package_has_onnxs_operators_alone(
    recipe: str, begun: Path, own_cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun, own_cache, dirs_exist_ok=True)
    package = graphopt.optimize("tiny-coder", tmp_path / "out", target="portable", recipe=recipe)
    assert package.manifest.closing_check == "passed"
    made = onnx.load(package.path / "model.onnx", load_external_data=False)
    assert {node.domain for node in made.graph.node} == {""}
    assert {one.domain for one in made.opset_import} == {""}
    onnx.checker.check_model(str(package.path / "model.onnx"), full_check=True)
