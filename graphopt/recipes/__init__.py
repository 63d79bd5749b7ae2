"""Recipes as data: steps, options and the damage they may do; and what is asked of a run."""

from graphopt.recipes._options import OnMismatch, OptimizeOptions, Verify
from graphopt.recipes._recipe import Budget, Recipe, Step
from graphopt.recipes._toml import recipe_toml

__all__ = ["Budget", "OnMismatch", "OptimizeOptions", "Recipe", "Step", "Verify", "recipe_toml"]
