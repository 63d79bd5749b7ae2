"""Copies of a package with a regression in it, as a build or a merge could bring one about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

__all__ = [
    "another_accuracy_level",
    "another_scale",
    "changed",
    "copied",
    "cut_short",
    "mask_dropped",
    "renamed_output",
    "slowed",
]


def copied(package: Path, out: Path) -> Path:
    """The package at `out`."""
    shutil.copytree(package, out)
    return out


def changed(package: Path, out: Path, edit: Callable[[onnx.ModelProto, Path], None]) -> Path:
    """The package at `out`, its graph edited; weights stay in the file beside it."""
    copied(package, out)
    model = onnx.load(out / "model.onnx", load_external_data=False)
    edit(model, out)
    onnx.save(model, out / "model.onnx")
    return out


def another_scale(package: Path, out: Path) -> Path:
    """The scales of one layer's weight, in the middle of the model, are 1.05 times what they were."""

    def edit(model: onnx.ModelProto, folder: Path) -> None:
        products = [node for node in model.graph.node if node.op_type in ("MatMulNBits", "MatMul")]
        quantized = [node for node in products if node.op_type == "MatMulNBits"] or products
        middle = quantized[len(quantized) // 2]
        name = middle.input[2 if middle.op_type == "MatMulNBits" else 1]
        tensor = next(t for t in model.graph.initializer if t.name == name)
        scaled = numpy_helper.from_array(1.05 * numpy_helper.to_array(tensor, str(folder)), name)
        tensor.CopyFrom(scaled)

    return changed(package, out, edit)


def mask_dropped(package: Path, out: Path) -> Path:
    """No attention is told which positions are padding."""

    def edit(model: onnx.ModelProto, _: Path) -> None:
        place = {"GroupQueryAttention": 10, "Attention": 3, "MultiHeadAttention": 5}
        for node in model.graph.node:
            if node.op_type in place:
                del node.input[place[node.op_type] :]

    return changed(package, out, edit)


def another_accuracy_level(package: Path, out: Path) -> Path:
    """Quantized products compute in float32 where they computed in int8."""

    def edit(model: onnx.ModelProto, _: Path) -> None:
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = 1

    return changed(package, out, edit)


def renamed_output(package: Path, out: Path) -> Path:
    """The first output of the graph has another name, which graphopt.json knows."""

    def edit(model: onnx.ModelProto, folder: Path) -> None:
        old = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = [f"{old}_2" if name == old else name for name in node.output]
            node.input[:] = [f"{old}_2" if name == old else name for name in node.input]
        model.graph.output[0].name = f"{old}_2"
        manifest = json.loads((folder / "graphopt.json").read_text())
        manifest["graphs"]["model"]["outputs"][0]["name"] = f"{old}_2"
        (folder / "graphopt.json").write_text(json.dumps(manifest))

    return changed(package, out, edit)


def cut_short(package: Path, out: Path) -> Path:
    """Texts end at the first line break."""
    copied(package, out)
    path = out / "genai_config.json"
    config = json.loads(path.read_text())
    tokens = json.loads((out / "tokenizer.json").read_text())["model"]["vocab"]
    breaks = [number for token, number in tokens.items() if "\u010a" in token]
    config["model"]["eos_token_id"] = [config["model"]["eos_token_id"], *breaks]
    path.write_text(json.dumps(config))
    return out


def slowed(package: Path, out: Path, links: int) -> Path:
    """A chain of `links` nodes, which no runtime removes, stands before an output and changes nothing."""

    def edit(model: onnx.ModelProto, _: Path) -> None:
        last, nodes = model.graph.output[0].name, list(model.graph.node)
        at = next(n for n, node in enumerate(nodes) if last in node.output)
        nodes[at].output[list(nodes[at].output).index(last)] = name = f"{last}/slow"
        chain = []
        for link in range(links):
            following = f"{last}/slow/{link}" if link + 1 < links else last
            negated = f"{name}/negated"
            chain.append(helper.make_node("Neg", [name], [negated]))
            chain.append(helper.make_node("Neg", [negated], [following]))
            name = following
        del model.graph.node[:]
        model.graph.node.extend([*nodes[: at + 1], *chain, *nodes[at + 1 :]])

    return changed(package, out, edit)
