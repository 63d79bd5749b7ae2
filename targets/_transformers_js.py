"""Where transformers.js (4.3) looks for graphs and weights, and what its settings say of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx_ir as ir

from graphopt.families import PackageContext
from graphopt.io import read_json
from graphopt.ir import MICROSOFT, DataFiles, all_graphs, inside_repository

__all__ = ["DATA", "dtype_of", "file_of", "name_batch", "not_fed", "write_settings"]

_FOLDER, _CONFIG, _OWN = "onnx", "config.json", "transformers.js_config"
_SUFFIXES = {
    "fp32": "",
    "fp16": "_fp16",
    "q8": "_quantized",
    "q4": "_q4",
    "q4f16": "_q4f16",
    "q2": "_q2",
    "q2f16": "_q2f16",
}
"""What follows the name of a graph's file, by what transformers.js calls its dtype."""
_NAMES = {64: "fp32", 32: "fp32", 16: "fp16", 8: "q8", 4: "q4", 2: "q2"}
DATA = DataFiles("_data", 2_000_000_000)
"""Browsers keep no larger buffer."""
_PACKED = {"MatMulNBits", "GatherBlockQuantized", "QMoE"}
"""onnxruntime's operators that hold several entries of a weight in a byte, as an attribute says."""
_BATCH = "batch_size"
"""The one name of a size that transformers.js knows: an empty cache has 0 for all others."""
_PAST = "past_key_values."
_FED = {
    "input_ids",
    "attention_mask",
    "position_ids",
    "token_type_ids",
    "pixel_values",
    "pixel_mask",
    "input_features",
    "input_values",
}


def dtype_of(model: ir.Model) -> str:
    """What transformers.js calls the precision of a graph: that of most entries of its weights.

    With blocks of 4 bits that is q4, or q4f16 where what is left in floats is in half precision.
    """
    entries = Counter[int]()
    for graph in all_graphs(model):
        if isinstance(graph, ir.Graph):
            for value in graph.initializers.values():
                if (bits := _bits(value)) and value.const_value is not None:
                    entries[bits] += value.const_value.nbytes * 8 // bits
    most = max(entries, key=lambda bits: entries[bits], default=32)
    name = _NAMES[most]
    return f"{name}f16" if most < 8 and entries[16] > entries[32] else name


def _bits(value: ir.Value) -> int | None:
    """Those of an entry of a weight; None for what is none: sizes and indices."""
    tensor = value.const_value
    if tensor is None or not (tensor.dtype.is_floating_point() or tensor.dtype.bitwidth <= 8):
        return None
    for node, _ in value.uses():
        if tensor.dtype == ir.DataType.UINT8 and node.domain == MICROSOFT and node.op_type in _PACKED:
            return node.attributes.get_int("bits", node.attributes.get_int("expert_weight_bits", 4))
    return int(tensor.dtype.bitwidth) if tensor.dtype.bitwidth in _NAMES else None


def file_of(role: str, dtype: str) -> str:
    """Where in a package the graph of a role lies."""
    return f"{_FOLDER}/{role}{_SUFFIXES[dtype]}.onnx"


def name_batch(model: ir.Model) -> None:
    """Call the first dimension of the caches what transformers.js calls it, wherever it stands."""
    names = {
        dim.value
        for value in model.graph.inputs
        if (value.name or "").startswith(_PAST) and value.shape
        if isinstance(dim := value.shape[0], ir.SymbolicDim) and dim.value
    }
    if not names:
        return
    word = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
    for graph in all_graphs(model):
        values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
        for value in values:
            if value.shape is not None:
                value.shape = ir.Shape([_renamed(dim, word) for dim in value.shape])


def _renamed(dim: int | ir.SymbolicDim, word: re.Pattern[str]) -> int | ir.SymbolicDim:
    if isinstance(dim, int) or dim.value is None:
        return dim
    return ir.SymbolicDim(word.sub(_BATCH, dim.value))


def not_fed(inputs: Iterable[str]) -> list[str]:
    """Of a graph's inputs those for which transformers.js has no tensor."""
    return [
        name
        for name in inputs
        if name not in _FED and not (name.startswith(_PAST) and name.endswith((".key", ".value")))
    ]


def write_settings(source: Path | None, staging: Path, parts: Mapping[str, PackageContext]) -> bool:
    """Write config.json with what transformers.js wants to know beside what the source's says.

    That is the dtype of each file, how many files of data it has, and the type of its cache. False where the
    source has none.
    """
    path = staging / _CONFIG
    if not path.is_file() and source is not None and (source / _CONFIG).is_file():
        path.write_bytes(inside_repository(source / _CONFIG, source).read_bytes())
    if not path.is_file():
        return False
    settings = read_json(path)
    own = settings.get(_OWN)
    settings[_OWN] = (own if isinstance(own, dict) else {}) | _own(staging, parts)
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return True


def _own(staging: Path, parts: Mapping[str, PackageContext]) -> dict[str, object]:
    dtypes = {role: _dtype_in(part.file) for role, part in parts.items()}
    counts = {
        place.name: count
        for part in parts.values()
        if (count := len(DATA.existing(place := staging / part.file)))
    }
    own: dict[str, object] = {
        "dtype": dtypes["model"] if dtypes.keys() == {"model"} else dtypes,
        "use_external_data_format": counts,
    }
    if any(
        spec.dtype == "float16"
        for part in parts.values()
        for spec in part.interface.inputs
        if spec.name.startswith(_PAST)
    ):
        own["kv_cache_dtype"] = dict.fromkeys(dtypes.values(), "float16")
    return own


def _dtype_in(file: str) -> str:
    """The dtype that the name of a graph's file says."""
    stem = Path(file).stem
    return max(
        (name for name, suffix in _SUFFIXES.items() if stem.endswith(suffix)), key=lambda n: len(_SUFFIXES[n])
    )
