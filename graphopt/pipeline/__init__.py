"""Passes, edits, recipes, and the engine that runs them."""

from graphopt.pipeline._adapter import (
    Adapter,
    AddedInput,
    DroppedInput,
    LastTokenLogits,
    QuantizedCache,
    adapt_feeds,
    adapt_results,
    adapter_from_json,
)
from graphopt.pipeline._context import Context
from graphopt.pipeline._contract import Contract, Level, OpsetRange
from graphopt.pipeline._edit import Bridge, Edit, NearMiss, Outcome, Proof
from graphopt.pipeline._match import Match, Pattern, find
from graphopt.pipeline._pass import Edits, Pass
from graphopt.pipeline._recipe import Budget, Recipe, Step, load_recipe, with_options
from graphopt.pipeline._runner import (
    ChangedBeside,
    EditRecord,
    Mismatch,
    OnMismatch,
    PassRecord,
    RunOptions,
    RunResult,
    build_steps,
    run_recipe,
    weight_bytes,
    whole_steps,
)

__all__ = [
    "Adapter",
    "AddedInput",
    "Bridge",
    "Budget",
    "ChangedBeside",
    "Context",
    "Contract",
    "DroppedInput",
    "Edit",
    "EditRecord",
    "Edits",
    "LastTokenLogits",
    "Level",
    "Match",
    "Mismatch",
    "NearMiss",
    "OnMismatch",
    "OpsetRange",
    "Outcome",
    "Pass",
    "PassRecord",
    "Pattern",
    "Proof",
    "QuantizedCache",
    "Recipe",
    "RunOptions",
    "RunResult",
    "Step",
    "adapt_feeds",
    "adapt_results",
    "adapter_from_json",
    "build_steps",
    "find",
    "load_recipe",
    "run_recipe",
    "weight_bytes",
    "whole_steps",
    "with_options",
]
