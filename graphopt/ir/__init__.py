"""Graphs and lazy weights, over onnx_ir."""

from graphopt.ir._bytes import Region, full_region, payload
from graphopt.ir._checkpoint import SafetensorsIndex
from graphopt.ir._evaluate import evaluate, extract, used_values
from graphopt.ir._expression import (
    Expr,
    FileRange,
    InMemory,
    Unbound,
    expression_type,
    read_clock,
    read_since,
)
from graphopt.ir._graph import const_of, consumers, is_output, producer, scalar_of
from graphopt.ir._hash import graph_hash, node_signature
from graphopt.ir._infer import infer_types
from graphopt.ir._load import inside_repository, load_model
from graphopt.ir._maps import holds_map
from graphopt.ir._operations import Affine, Cast, Concatenated, Reshaped, Scaled, Sliced, Transposed
from graphopt.ir._proto import attribute_proto, checker_problems, from_proto, restore_weights, to_proto
from graphopt.ir._random import is_random
from graphopt.ir._save import save_model
from graphopt.ir._scratch import Scratch
from graphopt.ir._simplify import simplified
from graphopt.ir._single import in_single
from graphopt.ir._structure import check_structure
from graphopt.ir._tensor import LazyTensor, digest, has_data, lazy, same_content, stored_bytes, tiles
from graphopt.ir._text import parse, text
from graphopt.ir._unreadable import unreadable
from graphopt.ir._walk import graph_protos

__all__ = [
    "Affine",
    "Cast",
    "Concatenated",
    "Expr",
    "FileRange",
    "InMemory",
    "LazyTensor",
    "Region",
    "Reshaped",
    "SafetensorsIndex",
    "Scaled",
    "Scratch",
    "Sliced",
    "Transposed",
    "Unbound",
    "attribute_proto",
    "check_structure",
    "checker_problems",
    "const_of",
    "consumers",
    "digest",
    "evaluate",
    "expression_type",
    "extract",
    "from_proto",
    "full_region",
    "graph_hash",
    "graph_protos",
    "has_data",
    "holds_map",
    "in_single",
    "infer_types",
    "inside_repository",
    "is_output",
    "is_random",
    "lazy",
    "load_model",
    "node_signature",
    "parse",
    "payload",
    "producer",
    "read_clock",
    "read_since",
    "restore_weights",
    "same_content",
    "save_model",
    "scalar_of",
    "simplified",
    "stored_bytes",
    "text",
    "tiles",
    "to_proto",
    "unreadable",
    "used_values",
]
