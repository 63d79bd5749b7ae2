"""A pass and a recipe."""

from __future__ import annotations

from pathlib import Path

from graphopt.plugins import Pack

from .relu_of_relu import ReluOfRelu

HERE = Path(__file__).parent
PACK = Pack(passes=(ReluOfRelu,), recipes=HERE / "recipes", examples=HERE / "examples")
