"""A pass, a recipe and a rule."""

from __future__ import annotations

from pathlib import Path

from graphopt.plugins import Pack

from .relu_of_relu import ReluOfRelu
from .rules import relu_of_relu

HERE = Path(__file__).parent
PACK = Pack(passes=(ReluOfRelu,), recipes=HERE / "recipes", examples=HERE / "examples", rules=(relu_of_relu,))
