"""What goes into a model and comes out of it: specs, models as functions, and adapters between interfaces."""

from graphopt.interface._adapter import (
    Adapter,
    AddedInput,
    DroppedInput,
    adapt_feeds,
    adapt_results,
    adapter_kind,
)
from graphopt.interface._function import Arrays, Model
from graphopt.interface._spec import Dim, Interface, TensorSpec

__all__ = [
    "Adapter",
    "AddedInput",
    "Arrays",
    "Dim",
    "DroppedInput",
    "Interface",
    "Model",
    "TensorSpec",
    "adapt_feeds",
    "adapt_results",
    "adapter_kind",
]
