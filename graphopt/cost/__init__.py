"""What a graph costs on a machine: its work by node, and times, memory and dollars predicted from it."""

from graphopt.cost._prediction import Bound, Prediction, Situation
from graphopt.cost._work import Call, GraphWork, Heads, NodeWork, Product

__all__ = ["Bound", "Call", "GraphWork", "Heads", "NodeWork", "Prediction", "Product", "Situation"]
