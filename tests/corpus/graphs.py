"""Exported models as text without weights: `python -m tests.corpus.graphs [MAP/TYPE...]`.

Each file in tests/corpus/graphs is a tiny model's graph as the exporter leaves it. Its header says which
family and configuration it is of, and how many kernels the lossless recipe makes of it.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnx.printer
import onnx_ir as ir

from graphopt import registry
from graphopt.export import export, resolve_source
from graphopt.families import Interface
from graphopt.ir import checker_problems, parse, to_proto
from graphopt.pipeline import Context, RunOptions, load_recipe, run_recipe
from graphopt.testing._example import header_of

FOLDER = Path(__file__).parent / "graphs"
KINDS = (
    "causal/qwen3 causal/gemma2 causal/falcon causal/olmo2 causal/gpt_neox causal/codegen causal/mixtral "
    "causal/opt causal/bloom causal/deepseek_v3 masked/bert masked/modernbert"
)
COUNTED = (
    "Attention",
    "GroupQueryAttention",
    "LayerNormalization",
    "RMSNormalization",
    "RotaryEmbedding",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Softmax",
    "ReduceMean",
)
_SHOWN_BYTES = 64
_FIELDS = ("vocab_size", "pad_token_id", "sliding_window", "type_vocab_size")


def lowered(model: ir.Model, header: dict[str, str]) -> dict[str, int]:
    """Run the lossless recipe for the CPU over `model`; counts of what tells how far it is lowered."""
    target = registry.resolve("target", "cpu", registry.targets())()
    recipe = load_recipe("lossless")
    config: dict[str, Any] = json.loads(header["config"])
    family = registry.resolve("model family", header["family"], registry.families())()
    domain = family.input_domain(Interface.of(model), config)
    context = Context(model, target=target, domain=domain, config=config, task=header["task"])
    run_recipe(model, recipe.expanded(target.lowering(recipe)), context, RunOptions(verify="off"))
    problems = checker_problems(model)
    assert not problems, problems
    found = Counter(node.op_type for node in model.graph.all_nodes())
    return {name: found[name] for name in COUNTED if found[name]}


def read(path: Path) -> tuple[dict[str, str], ir.Model]:
    """The header and the graph of a file."""
    head, _, graph = path.read_text(encoding="utf-8").partition("--- graph\n")
    return header_of(path, head), parse(graph)


def write(which: str, model_type: str) -> Path:
    """Export the tiny model of a type, and write its file."""
    from tests.corpus._tiny import write_tiny
    from tests.corpus._types import TASKS

    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        write_tiny(which, model_type, Path(folder))
        exported = export(resolve_source(folder), task=TASKS[which].task or "auto")
        config = {name: v for name in _FIELDS if (v := (exported.config or {}).get(name)) is not None}
        assert exported.family is not None
        header = {"family": exported.family.name, "task": exported.task, "config": json.dumps(config)}
        graph = _text(exported.model)
    header["lowered"] = json.dumps(lowered(parse(graph), header))
    lines = "".join(f"{key}: {value}\n" for key, value in header.items())
    path = FOLDER / f"{which}-{model_type}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{lines}--- graph\n{graph}", encoding="utf-8")
    return path


def _text(model: ir.Model) -> str:
    """ONNX's own text, with the shapes of inner values, which inference would find only in part."""
    proto = to_proto(model, limit=_SHOWN_BYTES)
    del proto.metadata_props[:]
    graph = proto.graph
    del graph.metadata_props[:]
    for node in graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            del tensor.external_data[1:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        del value.metadata_props[:]
        value.ClearField("doc_string")
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_param = re.sub(r"\W+", "_", dim.dim_param)
    return str(onnx.printer.to_text(proto))


if __name__ == "__main__":
    for argument in sys.argv[1:] or KINDS.split():
        made = write(*argument.split("/"))
        print(made, read(made)[0]["lowered"], flush=True)
