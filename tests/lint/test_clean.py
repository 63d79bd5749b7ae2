"""No false findings.

Clean is what graphopt itself makes, by its lossless recipe, of graphs with all kinds of operators in them,
and by its recipes that compress, of models: whatever a rule has to say there is either wrong, or something
that graphopt leaves undone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from graphopt.build import chosen_target, configured, lint
from graphopt.ir import infer_types, save_model
from graphopt.plugins import run_recipe
from graphopt.testing._example import corpus
from tests._quantized import half_network, qdq_network

EXAMPLES = {example.path.stem: example for example in corpus()}
NOT_CLEAN = {
    "blocks-in-floats": "a cliff that is planted, and no recipe mends",
    "dequantized-and-turned": "likewise",
    "float-zero-points": "likewise",
    "packed-product-and-lookup": "it is at level 0, from which lower-blocks starts",
}


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - NOT_CLEAN.keys()))
def test_graphs_by_the_lossless_recipe(tmp_path: Path, name: str) -> None:
    model = EXAMPLES[name].model()
    target = chosen_target(None)
    context = replace(EXAMPLES[name].context(model), target=target)
    run_recipe(model, configured("lossless", (), target), context)
    infer_types(model)
    save_model(model, tmp_path / "model.onnx")

    assert [(rule.code, finding) for rule, finding in lint(tmp_path / "model.onnx").found] == []


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["lossless", "int8", "int4"])
def test_packages_of_a_language_model(
    tiny_coder_at: Callable[[str], Path], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine where onnxruntime-genai takes as many threads as there are."""
    monkeypatch.setattr("graphopt_models._genai_rules.default_threads", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert [(rule.code, finding) for rule, finding in lint(tiny_coder_at(recipe)).found] == []


def test_a_package_of_an_encoder(encoder: tuple[Path, Path]) -> None:
    assert not lint(encoder[1]).found


@pytest.mark.parametrize(
    "network", [qdq_network(), qdq_network(opset=21), half_network()], ids=["qdq", "qdq 21", "half"]
)
def test_networks_that_are_quantized_as_the_cpu_wants_it(tmp_path: Path, network: onnx.ModelProto) -> None:
    onnx.save(network, tmp_path / "model.onnx")
    found = [(rule.code, finding) for rule, finding in lint(tmp_path / "model.onnx").found]
    assert found == []
