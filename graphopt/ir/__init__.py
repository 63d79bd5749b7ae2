"""Graphs and lazy weights, over onnx_ir."""

from graphopt.ir._blocks import BlockIntegers, Blocks, blocks_of, ordered_blocks_of, stacked_blocks_of
from graphopt.ir._bytes import Region, full_region, payload
from graphopt.ir._channels import Rotated, Taken
from graphopt.ir._checkpoint import SafetensorsIndex
from graphopt.ir._content import content_of
from graphopt.ir._evaluate import evaluate, evaluator, extract, used_values
from graphopt.ir._expression import (
    Expr,
    FileRange,
    InMemory,
    Unbound,
    expression_type,
    read_clock,
    read_since,
)
from graphopt.ir._formulas import constant_factor, either_order, scalar_operand, wrong_constant
from graphopt.ir._graph import (
    const_of,
    consumers,
    initializer,
    is_output,
    node_name,
    only_user,
    producer,
    same_dim,
    same_shape,
    scalar_of,
    static_dim,
)
from graphopt.ir._hash import graph_hash, node_signature
from graphopt.ir._infer import infer_types
from graphopt.ir._lean import made_up_names
from graphopt.ir._load import inside_repository, load_model
from graphopt.ir._maps import holds_map
from graphopt.ir._matrices import ConstantMatrix, constant_matrix, constant_table, name_matches
from graphopt.ir._operations import Affine, Cast, Concatenated, Reshaped, Scaled, Sliced, Transposed
from graphopt.ir._origins import Ancestors, from_shapes
from graphopt.ir._proto import attribute_proto, checker_problems, from_proto, restore_weights, to_proto
from graphopt.ir._random import is_random
from graphopt.ir._removal import leak, orphans
from graphopt.ir._samples import run_from, sample_of
from graphopt.ir._save import DataFiles, data_file_bytes, inside_bytes, save_model
from graphopt.ir._scratch import Scratch
from graphopt.ir._simplify import simplified
from graphopt.ir._single import in_single
from graphopt.ir._structure import check_structure
from graphopt.ir._tensor import (
    LazyTensor,
    digest,
    has_data,
    lazy,
    same_content,
    stored_bytes,
    tile_regions,
    tiles,
)
from graphopt.ir._text import parse, text
from graphopt.ir._unreadable import unreadable
from graphopt.ir._walk import all_graphs, graph_protos, subgraphs_of
from graphopt.ir.operators import MICROSOFT

__all__ = [
    "MICROSOFT",
    "Affine",
    "Ancestors",
    "BlockIntegers",
    "Blocks",
    "Cast",
    "Concatenated",
    "ConstantMatrix",
    "DataFiles",
    "Expr",
    "FileRange",
    "InMemory",
    "LazyTensor",
    "Region",
    "Reshaped",
    "Rotated",
    "SafetensorsIndex",
    "Scaled",
    "Scratch",
    "Sliced",
    "Taken",
    "Transposed",
    "Unbound",
    "all_graphs",
    "attribute_proto",
    "blocks_of",
    "check_structure",
    "checker_problems",
    "const_of",
    "constant_factor",
    "constant_matrix",
    "constant_table",
    "consumers",
    "content_of",
    "data_file_bytes",
    "digest",
    "either_order",
    "evaluate",
    "evaluator",
    "expression_type",
    "extract",
    "from_proto",
    "from_shapes",
    "full_region",
    "graph_hash",
    "graph_protos",
    "has_data",
    "holds_map",
    "in_single",
    "infer_types",
    "initializer",
    "inside_bytes",
    "inside_repository",
    "is_output",
    "is_random",
    "lazy",
    "leak",
    "load_model",
    "made_up_names",
    "name_matches",
    "node_name",
    "node_signature",
    "only_user",
    "ordered_blocks_of",
    "orphans",
    "parse",
    "payload",
    "producer",
    "read_clock",
    "read_since",
    "restore_weights",
    "run_from",
    "same_content",
    "same_dim",
    "same_shape",
    "sample_of",
    "save_model",
    "scalar_of",
    "scalar_operand",
    "simplified",
    "stacked_blocks_of",
    "static_dim",
    "stored_bytes",
    "subgraphs_of",
    "text",
    "tile_regions",
    "tiles",
    "to_proto",
    "unreadable",
    "used_values",
    "wrong_constant",
]
