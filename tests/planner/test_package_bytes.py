"""Bytes of packages, told beforehand from config.json and a recipe, are those that are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from graphopt import optimize
from graphopt.cost import GraphWork, data_bytes, package_interval, with_forms, work_of
from graphopt.evaluate import measure_facts
from graphopt.ir import load_model
from graphopt.metrics import Exact
from graphopt.package import RunnablePackage
from graphopt.planner import planned_source
from graphopt.planner._recipes import Storing
from graphopt.plugins import load_recipe, with_options
from graphopt.recipes import recipe_toml
from tests._models import write_model
from tests.cost.test_decoder import same

SIZES = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_attention_heads": 6,
    "max_position_embeddings": 512,
}
MODELS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "llama": ("llama", {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}),
    "llama with other heads": ("llama", {"head_dim": 48}),
    "mistral": ("mistral", {"sliding_window": 64}),
    "qwen2": ("qwen2", {"tie_word_embeddings": False}),
    "qwen3": ("qwen3", {}),
    "phi3": ("phi3", {"tie_word_embeddings": False}),
    "gemma3": ("gemma3", {}),
    "mixtral": ("mixtral", {}),
    "qwen3 with experts": ("qwen3_moe", {}),
}
RECIPES: Mapping[str, tuple[str, ...]] = {
    "lossless": (),
    "fp16": (),
    "int8": (),
    "int4-fast": (),
    "int4-kv8": ("quantize-weights.rounding=nearest", "quantize-kv.bits=4"),
}
OTHERWISE = ("fp16", "int4-kv8")
"""Recipes whose nodes are not told one by one: where halves are looked up, and how 4 bits of a cache lie."""
FORMS = (
    ("bits=2", "block_size=64"),
    ("bits=4", "block_size=16"),
    ("bits=4", "block_size=256", "zero_points=always"),
    ("bits=8", "block_size=32", "zero_points=always", "embedding=all"),
)


def written(folder: Path) -> tuple[int, float]:
    """Bytes of the file of weights, and of all weights."""
    (weights,) = measure_facts(RunnablePackage.load(folder), None, metrics=("weight_bytes",))
    assert isinstance(weights.evidence, Exact)
    return (folder / "model.onnx.data").stat().st_size, weights.evidence.value


def source(name: str, cached: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    kind, config = MODELS[name]
    return cached(f"{name}-to-weigh", lambda folder: write_model(kind, folder, **{**SIZES, **config}))


def told(source: Path, recipe: str, settings: tuple[str, ...], folder: Path) -> GraphWork:
    """As a plan has it, with `settings` of the recipe's passes."""
    file = folder / "asked.toml"
    file.write_text(recipe_toml(with_options(load_recipe(recipe), settings)), encoding="utf-8")
    storing, work = Storing(str(file)), planned_source(str(source)).work
    return with_forms(work, storing.forms(work), storing.cache_bits())


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        *(("llama", recipe) for recipe in RECIPES),
        *((model, "int8") for model in [*MODELS][1:]),
        *(("qwen3 with experts", recipe) for recipe in ("fp16", "int4-fast")),
    ],
)
def test_weights_of_every_recipe(
    model: str, recipe: str, cached: Callable[[str, Callable[[Path], None]], Path], tmp_path: Path
) -> None:
    folder = source(model, cached)
    optimize(folder, tmp_path / "p", recipe=recipe, settings=RECIPES[recipe], verify="off", validate=False)
    work = told(folder, recipe, RECIPES[recipe], tmp_path)
    assert (data_bytes(work), work.weight_bytes) == written(tmp_path / "p")
    if recipe not in OTHERWISE:
        same(work_of(load_model(tmp_path / "p" / "model.onnx")), work)


@pytest.mark.parametrize("settings", FORMS, ids=",".join)
def test_weights_in_any_block(settings: tuple[str, ...], tiny_coder: Path, tmp_path: Path) -> None:
    asked = tuple(f"quantize-weights.{one}" for one in settings)
    optimize(tiny_coder, tmp_path / "p", recipe="int4-fast", settings=asked, verify="off", validate=False)
    work = told(tiny_coder, "int4-fast", asked, tmp_path)
    assert (data_bytes(work), work.weight_bytes) == written(tmp_path / "p")


@pytest.mark.parametrize("recipe", ["lossless", "fp16", "int8", "int4", "int4-kv8"])
def test_all_files_of_the_embedded_model(
    recipe: str, tiny_coder: Path, tiny_coder_at: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tiny_coder_at(recipe)
    measured = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    predicted = package_interval(told(tiny_coder, recipe, (), tmp_path))
    assert predicted.low <= measured <= predicted.high
    assert predicted.value == pytest.approx(measured, rel=0.005)


def test_a_graph_tells_what_its_files_take(tiny_coder_at: Callable[[str], Path]) -> None:
    file = tiny_coder_at("int4") / "model.onnx"
    work = work_of(load_model(file))
    assert data_bytes(work) == file.with_name("model.onnx.data").stat().st_size
