"""What is installed: passes, recipes, targets and model families, found and put to use by name."""

from graphopt.plugins._adapters import adapter_from_json, adapter_to_json, through
from graphopt.plugins._allowed import Allowed
from graphopt.plugins._recipes import load_recipe, with_options
from graphopt.plugins._scaffold import Kind, scaffold
from graphopt.plugins._steps import build_steps, run_recipe
from graphopt.plugins.registry import Pack

__all__ = [
    "Allowed",
    "Kind",
    "Pack",
    "adapter_from_json",
    "adapter_to_json",
    "build_steps",
    "load_recipe",
    "run_recipe",
    "scaffold",
    "through",
    "with_options",
]
