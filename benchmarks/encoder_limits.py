"""What the limit of `quantize-dynamic` in the recipe int8 does to all-MiniLM-L6-v2.

    python benchmarks/encoder_limits.py 0.0008 0.00095 0.00105

How many of its 25 products are computed once and twice, how many tokens a call has (measured here), the
lowest cosine of a token's and of the sentence's vector in the closing check (PyTorch in fp32, random legal
calls), and of sentences: the mean of the tokens' vectors of 128 lines of the built-in Python text, in one
batch and in four, and of the 512 lines after them, in one. What was found is merged into
benchmarks/results/encoder_limits.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from _provenance import here
from _results import Row, Table, option, record
from encoder import minilm

import graphopt
from graphopt.evaluate._texts import built_in_text
from graphopt.metrics import cosine_similarity
from graphopt.plugins import registry
from graphopt.runtime import Tokenizer

LINES, TOKENS = 128, 64
COSINES = ("token", "pooled", "one_batch", "four_batches", "other_lines")


def texts(model: Path, first: int = 0, count: int = LINES) -> dict[str, np.ndarray]:
    tokenizer = Tokenizer(model)
    lines = [line.strip() for line in built_in_text().content.splitlines() if len(line.split()) > 4]
    lines = lines[first : first + count]
    ids = np.zeros((len(lines), TOKENS), np.int64)
    mask = np.zeros_like(ids)
    for at, line in enumerate(lines):
        row = tokenizer.framed(line)[:TOKENS]
        ids[at, : len(row)], mask[at, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def sentences(run: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    mask = feeds["attention_mask"][..., None]
    found: np.ndarray = (run(feeds)["last_hidden_state"] * mask).sum(1) / mask.sum(1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("limits", nargs="+", type=float)
    option(parser, "encoder_limits")
    args = parser.parse_args()
    model = minilm(Path())
    feeds = texts(model)
    batches = [{k: v[i::4] for k, v in feeds.items()} for i in range(4)]
    others = texts(model, LINES, 512)
    header = "| limit | once | twice | tokens a call | token | pooled | one batch | in four | other lines |"
    print(header + "\n" + "|---" * 9 + "|")
    rows: list[Row] = []
    for limit in args.limits:
        with tempfile.TemporaryDirectory() as folder:
            package = graphopt.optimize(
                model, Path(folder) / "int8", recipe="int8", settings=[f"quantize-dynamic.damage={limit}"]
            )
            said, interface = package.manifest, package.interface()
            reference = registry.families()[str(said.family)]().reference(model, said.task, interface)
            graph = onnx.load(package.path / "model.onnx", load_external_data=False).graph
            count = sum(node.op_type == "MatMulInteger" for node in graph.node)
            lowest: dict[str, float] = {}
            for c in package.report().closing.metrics:
                lowest[c.output] = min(lowest.get(c.output, 1.0), c.value)
            least = [
                min(
                    float(cosine_similarity(sentences(reference, f), sentences(package.run, f)).min())
                    for f in some
                )
                for some in ([feeds], batches, [others])
            ]
            cells = (*lowest.values(), *least)
            twice = sum(node.op_type == "DequantizeLinear" for node in graph.node)
            row: Row = {"limit": limit, "once": count - 2 * twice, "twice": twice}
            row["tokens_a_call"] = package.manifest.max_batch_tokens
            rows.append(row | dict(zip(COSINES, cells, strict=True)))
            counts = f"{limit:g} | {count - 2 * twice} | {twice} | {package.manifest.max_batch_tokens}"
            print(f"| {counts} | " + " | ".join(f"{x:.4f}" for x in cells) + " |", flush=True)

    cell = {"model": "minilm", "recipe": "int8"}
    record(args.json, [Table(name="limits", cell=cell, key="limit", rows=rows, **here("torch"))])


if __name__ == "__main__":
    main()
