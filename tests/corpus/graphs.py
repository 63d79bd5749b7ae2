"""Exported models as text without weights: `python -m tests.corpus.graphs [--check] [FAMILY...]`.

Each file in tests/corpus/graphs is a tiny model's graph as the exporter leaves it, or one of its graphs. Its
header says which family and configuration it is of, how many kernels the lossless recipe makes of it, and
what one of its layers consists of then. With --check nothing is written: it tells which files another export
would change.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.printer
import onnx_ir as ir

from graphopt.export import Exported, export_parts, resolve_source
from graphopt.families import InputDomain
from graphopt.interface import Interface
from graphopt.ir import checker_problems, graph_protos, has_data, parse, to_proto
from graphopt.pipeline import Context
from graphopt.plugins import load_recipe, registry, run_recipe
from graphopt.recipes import OptimizeOptions
from graphopt.testing._example import header_of
from tests.corpus._layers import layer_of

FOLDER = Path(__file__).parent / "graphs"
COUNTED = (
    "Attention",
    "CausalConvWithState",
    "GroupQueryAttention",
    "LayerNormalization",
    "LinearAttention",
    "MoE",
    "RMSNormalization",
    "RotaryEmbedding",
    "Scan",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Softmax",
    "ReduceMean",
)
_SHOWN_BYTES = 64
_FIELDS = ("vocab_size", "pad_token_id", "sliding_window", "type_vocab_size", "max_position_embeddings")
_FIELDS += ("original_max_position_embeddings",)


def domain_of(model: ir.Model, header: dict[str, str]) -> InputDomain:
    """The legal inputs of a graph that was read."""
    family = registry.resolve("model family", header["family"], registry.families())()
    part = family.parts(header["task"])[header.get("role", "model")]
    return part.input_domain(Interface.of(model), json.loads(header["config"]))


def lower(model: ir.Model, header: dict[str, str], name: str = "cpu") -> None:
    """Run the lossless recipe for the target called `name` over `model`."""
    target = registry.resolve("target", name, registry.targets())()
    recipe = load_recipe("lossless")
    config: dict[str, Any] = json.loads(header["config"])
    context = Context(
        model, target=target, domain=domain_of(model, header), config=config, task=header["task"]
    )
    run_recipe(model, recipe.expanded(target.lowering(recipe)), context, OptimizeOptions(verify="off"))
    problems = checker_problems(model)
    assert not problems, problems


def census(model: ir.Model) -> dict[str, dict[str, int]]:
    """Counts of what tells how far a lowered graph is, and of everything in its second layer."""
    found = Counter(node.op_type for node in model.graph.all_nodes())
    return {"lowered": {n: found[n] for n in COUNTED if found[n]}, "layer": layer_of(model.graph)}


def read(path: Path) -> tuple[dict[str, str], ir.Model]:
    """The header and the graph of a file, its weights made up."""
    head, _, graph = path.read_text(encoding="utf-8").partition("--- graph\n")
    model = parse(graph)
    rng = np.random.default_rng(0)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and not has_data(tensor):
            shape = tensor.shape.numpy()
            array = rng.standard_normal(shape) / max(1, np.prod(shape[1:])) ** 0.5
            value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
    return header_of(path, head), model


def made(name: str) -> dict[str, str]:
    """The texts of the files of a family by role, from an export of its tiny model."""
    from tests.corpus._families import FAMILIES, task_of, write_family

    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        write_family(name, Path(folder))
        parts = export_parts(resolve_source(folder), task=task_of(FAMILIES[name]))
        return {exported.role: _file(exported) for exported in parts}


def _file(exported: Exported) -> str:
    assert exported.family is not None
    header = {"family": exported.family.name, "task": exported.task}
    if exported.role != "model":
        header["role"] = exported.role
    config = {field: v for field in _FIELDS if (v := (exported.config or {}).get(field)) is not None}
    header["config"] = json.dumps(config)
    lines = "".join(f"{key}: {value}\n" for key, value in header.items())
    return f"{lines}--- graph\n{_text(exported.model)}"


def with_census(text: str) -> str:
    """`text` with what becomes of it in its header."""
    head, mark, graph = text.partition("--- graph\n")
    head = "".join(line for line in head.splitlines(True) if not line.startswith(("lowered:", "layer:")))
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        path = Path(folder) / "graph.txt"
        path.write_text(text, encoding="utf-8")
        header, model = read(path)
        lower(model, header)
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in census(model).items())
    return head + lines + mark + graph


def files_of(name: str) -> dict[str, Path]:
    """Where the graphs of a family are kept, by role."""
    from tests.corpus._families import FAMILIES, roles_of

    family = FAMILIES[name]
    return {
        role: FOLDER / (f"{family.which}-{name}" + (f"-{role}" if role != "model" else "") + ".txt")
        for role in roles_of(family)
    }


def _text(model: ir.Model) -> str:
    """ONNX's own text, with the shapes of inner values, which inference would find only in part."""
    proto = to_proto(model, limit=_SHOWN_BYTES)
    del proto.metadata_props[:]
    for graph in graph_protos(proto.graph):
        del graph.metadata_props[:]
        for node in graph.node:
            node.ClearField("name")
            node.ClearField("doc_string")
            del node.metadata_props[:]
        for value in (*graph.input, *graph.output, *graph.value_info):
            del value.metadata_props[:]
            value.ClearField("doc_string")
            for dim in value.type.tensor_type.shape.dim:
                if dim.HasField("dim_param"):
                    dim.dim_param = re.sub(r"\W+", "_", dim.dim_param)
    for index, tensor in enumerate(proto.graph.initializer):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            del tensor.external_data[1:]
        else:  # indices: made-up ones would be out of bounds
            whole = model.graph.initializers[tensor.name].const_value
            assert whole is not None
            proto.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(whole.numpy(), tensor.name))
    return str(onnx.printer.to_text(proto))


def main() -> int:
    """Write the files, or tell which would change."""
    from tests.corpus._families import FAMILIES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FAMILY")
    parser.add_argument("--check", action="store_true", help="write nothing, show what would change")
    parser.add_argument("--census", action="store_true", help="export nothing, count anew")
    arguments = parser.parse_args()
    changed = 0
    for name in arguments.names or FAMILIES:
        texts = {} if arguments.census else made(name)
        for role, path in files_of(name).items():
            old = path.read_text(encoding="utf-8") if path.exists() else ""
            new = with_census(old if arguments.census else texts[role])
            changed += new != old
            print(path.name, "as it was" if new == old else "changed", flush=True)
            if new != old and arguments.check:
                sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), n=0))
            elif not arguments.check:
                path.write_text(new, encoding="utf-8")
    return int(bool(changed and arguments.check))


if __name__ == "__main__":
    sys.exit(main())
