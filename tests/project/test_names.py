"""graphopt names no pass, target, family, recipe, assumption, state or operator of onnxruntime."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state

from graphopt.plugins import registry
from tests._cache import ROOT
from tests.project._imports import PACKS, modules
from tests.project._names import OPERATORS, known_names

# What a word is there, where it is no name of a pack.
OTHERWISE = {
    ("graphopt/cli/_passes.py", "lossless"): "what a recipe without a budget is",
    ("graphopt/cli/_profile.py", "fp16"): "a type",
    ("graphopt/cli/_profile.py", "int8"): "a type",
    ("graphopt/cost/_predict.py", "int8"): "a type",
    ("graphopt/cost/_rates.py", "int8"): "a type",
    ("graphopt/cost/_tables.py", "fp16"): "a type",
    ("graphopt/cost/_tables.py", "int8"): "a type",
    ("graphopt/evaluate/_validation.py", "encoder"): "a kind of measurement in `validate --json`",
    ("graphopt/families.py", "lossless"): "the recipe where nobody says which",
    ("graphopt/machine/_measure.py", "int8"): "a type",
    ("graphopt/package/_answers.py", "encoder"): "a graph's role",
    ("graphopt/runtime/_states.py", "past_key_values"): "what onnxruntime-genai calls it, where nobody says",
    ("graphopt/runtime/_decode.py", "cpu"): "onnxruntime's name of a device",
    ("graphopt/runtime/_threads.py", "cpu"): "Linux's name of a control group",
    ("graphopt/targets/_description.py", "cpu"): "a kind of device",
}


def assumptions(root: Path) -> set[str]:
    """The keys of what packs assume, where they are written out."""
    calls = (
        node
        for pack in PACKS
        for path in modules(root / pack)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Assumption"
    )
    keys = (argument for call in calls for argument in call.args[:1] if isinstance(argument, ast.Constant))
    return {str(key.value) for key in keys}


def pack_names() -> set[str]:
    """Of everything that the built-in packs bring, and of what their families call caches."""
    found = {*registry.passes(), *registry.targets(), *registry.families(), *assumptions(ROOT)}
    return found | {path.stem for path in (ROOT / "passes" / "recipes").glob("*.toml")} | {"past_key_values"}


def operators() -> set[str]:
    """onnxruntime's, but for those whose names ONNX has too."""
    schemas = state.get_all_operator_schema()
    standard = {schema.name for schema in schemas if schema.domain == ""}
    return {schema.name for schema in schemas if schema.domain == "com.microsoft"} - standard


def test_graphopt_knows_nothing_of_a_pack_by_name() -> None:
    found = known_names(ROOT, pack_names(), operators())
    assert found == sorted(OTHERWISE)


def test_the_names_are_those_that_there_are() -> None:
    assert {"cse", "cpu", "causal-lm", "int4-kv8", "dense-attention"} <= pack_names()
    assert {"MatMulNBits", "GroupQueryAttention"} <= operators()
    assert "Gelu" not in operators()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('if key == "dense-attention": pass', "dense-attention"),
        ("x = f'{n} under dense-attention'", "dense-attention"),
        ('x = {"cpu"}', "cpu"),
        ('x = name.startswith("past_key_values.")', "past_key_values"),
        ('x = node.op_type == "MatMulNBits"', "MatMulNBits"),
        ('"""A docstring about dense-attention on the cpu"""', None),
        ('x = "the cpu of this machine, not-dense-attention"', None),
        ('__all__ = ["MatMulNBits"]', None),
    ],
)
def test_a_planted_name_is_found(tmp_path: Path, source: str, found: str | None) -> None:
    file = tmp_path / "graphopt" / "verify" / "_a.py"
    file.parent.mkdir(parents=True)
    file.write_text(source)

    told = known_names(tmp_path, {"dense-attention", "cpu", "past_key_values"}, {"MatMulNBits"})
    assert told == ([("graphopt/verify/_a.py", found)] if found else [])


def test_one_module_may_name_operators(tmp_path: Path) -> None:
    file = tmp_path / OPERATORS
    file.parent.mkdir(parents=True)
    file.write_text('X = {"MatMulNBits"}')

    assert known_names(tmp_path, {"cpu"}, {"MatMulNBits"}) == []
