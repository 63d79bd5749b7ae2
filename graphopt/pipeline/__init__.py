"""Passes, edits, recipes, and the engine that runs them."""

from graphopt.pipeline._apply import NoAdapter, apply
from graphopt.pipeline._calibration import Calibration
from graphopt.pipeline._context import LEFT_OUT, Context
from graphopt.pipeline._contract import Contract, Level, OpsetRange
from graphopt.pipeline._edit import Bridge, Edit, NearMiss, Outcome, Proof, place_of
from graphopt.pipeline._memory import Memory
from graphopt.pipeline._nodes import Nodes
from graphopt.pipeline._pass import Edits, Pass
from graphopt.pipeline._record import EditRecord, Mismatch, PassCrashed, PassRecord, UndeclaredChange
from graphopt.pipeline._runner import (
    NamedPass,
    RunHooks,
    RunResult,
    run_steps,
    weight_bytes,
    whole_steps,
)
from graphopt.pipeline._sizes import assume_not_empty
from graphopt.pipeline._tiles import map_tiles
from graphopt.pipeline._trail import Trail
from graphopt.pipeline._verifier import EditStatus, EditVerdict, Verifier

__all__ = [
    "LEFT_OUT",
    "Bridge",
    "Calibration",
    "Context",
    "Contract",
    "Edit",
    "EditRecord",
    "EditStatus",
    "EditVerdict",
    "Edits",
    "Level",
    "Memory",
    "Mismatch",
    "NamedPass",
    "NearMiss",
    "NoAdapter",
    "Nodes",
    "OpsetRange",
    "Outcome",
    "Pass",
    "PassCrashed",
    "PassRecord",
    "Proof",
    "RunHooks",
    "RunResult",
    "Trail",
    "UndeclaredChange",
    "Verifier",
    "apply",
    "assume_not_empty",
    "map_tiles",
    "place_of",
    "run_steps",
    "weight_bytes",
    "whole_steps",
]
