"""Recipes as data: steps, options and the damage they may do."""

from graphopt.recipes._recipe import Budget, Recipe, Step

__all__ = ["Budget", "Recipe", "Step"]
