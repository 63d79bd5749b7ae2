"""The built-in passes and recipes."""

from __future__ import annotations

from pathlib import Path

from graphopt.registry import Pack

from .cse import CommonSubexpressions
from .dead_code import DeadCode
from .fold_constants import FoldConstants
from .remove_noops import RemoveNoops
from .simplify_shapes import SimplifyShapes
from .tie_weights import TieWeights
from .upgrade import Upgrade

PACK = Pack(
    passes=(
        CommonSubexpressions,
        DeadCode,
        FoldConstants,
        RemoveNoops,
        SimplifyShapes,
        TieWeights,
        Upgrade,
    ),
    recipes=Path(__file__).parent / "recipes",
)
