"""Kernels of our own, compiled at install: for the speed that onnxruntime's leave unused.

A package never depends on them. Where a session is opened on a machine that they are for, nodes that they
serve are handed to them; everywhere else onnxruntime's own kernels run the same graph.
"""

from ._graph import own_graph, with_own_kernels
from ._library import convolves, kernels_name, library
from ._session import open_session, session_of

__all__ = [
    "convolves",
    "kernels_name",
    "library",
    "open_session",
    "own_graph",
    "session_of",
    "with_own_kernels",
]
