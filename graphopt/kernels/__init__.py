"""Kernels of our own, compiled at install: for the speed that onnxruntime's leave unused.

A package never depends on them. Where a session is opened on a machine that they are for, nodes that they
serve are handed to them; everywhere else onnxruntime's own kernels run the same graph.
"""

from graphopt.kernels._graph import own_graph, weight_files, with_own_kernels
from graphopt.kernels._library import kernels_name, library

__all__ = ["kernels_name", "library", "own_graph", "weight_files", "with_own_kernels"]
