"""What fewer bits cost in accuracy: graphopt beside llama.cpp, genai's builder, AutoRound and GPTQModel.

    python benchmarks/quality.py                     # what is not known yet; peers: hours (estimated)
    python benchmarks/quality.py --model tiny-coder --only "graphopt|Q4_K_M"

Three trained language models of three architectures; KL divergence from each in fp32 on 16,384 tokens of
held-out text, as deployed: graphopt's packages and the builder's in onnxruntime, GGUF files in llama.cpp.
AutoRound and GPTQModel run their own kernels on other hardware; their weights are measured in fp32. All are
calibrated on one text. Bits are those of all tensors in the file over the parameters of the checkpoint.

What was measured of each token is kept in WORK/MODEL/kept by what it was measured on, so that only what has
changed is made again; who has those files needs no peer's environment. What was found is merged into
benchmarks/results/quality.json.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from _contenders import FIXED, FLOOR, PEERS, planned
from _damage import Logits, torch_logits
from _kept import Kept, load, measured
from _lms import LMS, TOKENS, Tokens, heldout, parameters
from _provenance import here
from _recipes import Recipe
from _results import Row, Table, option, record
from _rounds import table_of

INTERVAL = "95 % bootstrap interval, over windows of the held-out text"
# Ours, and whose damage it is held against. Who rounds in PyTorch leaves the tables as they are.
_PAIRS = (
    ("graphopt int4", "graphopt int4-fast"),
    ("graphopt int4, learned", "graphopt int4-fast"),
    ("graphopt at Q4_K_M's bits", "llama.cpp Q4_K_M, importance matrix"),
    ("graphopt at Q4_K_M's quality", "llama.cpp Q4_K_M, importance matrix"),
    ("graphopt at Q4_0's bits", "llama.cpp Q4_0"),
    ("graphopt at Q4_0's bits", "llama.cpp Q4_0, importance matrix"),
    ("graphopt layers' products alone, block 128", "AutoRound, group 128"),
    ("graphopt layers' products alone, block 128", "AutoRound, group 128, zero points"),
    ("graphopt layers' products alone, block 128", "GPTQModel, group 128"),
    ("graphopt 3.25 bits", "genai builder, block 32"),
    ("graphopt int8, int8 cache", FLOOR.name),
)


def measure(name: str, args: argparse.Namespace) -> dict[str, Kept]:
    """Everyone that is asked for, and who is known already, by name."""
    source, work = LMS[name], args.work / name
    texts = heldout(source, args.tokens)

    @cache
    def reference() -> Logits:
        answers = {tokens.tobytes(): of for tokens, of in zip(texts, _all(source, texts), strict=True)}
        return lambda tokens: answers[tokens.tobytes()]

    found: dict[str, Kept] = {}

    def add(recipes: Iterable[Recipe]) -> None:
        for recipe in recipes:
            if re.search(args.only, recipe.name):
                print(f"{name}: {recipe.name}", file=sys.stderr, flush=True)
                try:
                    found[recipe.name] = measured(recipe, source, work, texts, reference)
                except SystemExit as failure:
                    args.failed.append(f"{name}: {failure}")
            elif known := load(work / "kept" / f"{recipe.slug}.npz"):
                found[recipe.name] = known

    add(PEERS)
    add(FIXED)
    add(planned({name: kept.size for name, kept in found.items()}, source))
    return found


def _all(source: Path, texts: Sequence[Tokens]) -> list[np.ndarray[Any, Any]]:
    logits = torch_logits(source, "float32")
    return [logits(tokens) for tokens in texts]


def quality(name: str, found: Mapping[str, Kept], total: int, tokens: int) -> Table:
    """Damage and size of everyone."""
    rows: list[Row] = []
    for peer, kept in found.items():
        row: Row = {"peer": peer, "kl_mean": kept.mean(), "kl_p99": kept.percentile()}
        row["top1_percent"] = kept.top1()
        if kept.size:
            row |= {"bits": 8 * kept.size / total, "weights_mb": kept.size / 1e6}
        rows.append(row)
    cell: dict[str, bool | int | float | str] = {"model": name, "tokens": tokens}
    whose = f"{INTERVAL}; KL divergence from fp32 in nats a token"
    return Table(name="quality", cell=cell, key="peer", interval=whose, rows=rows, **here("torch"))


def ratios(name: str, found: Mapping[str, Kept], total: int) -> Table:
    """Our damage over theirs on the same tokens."""
    rows: list[Row] = []
    for one, other in _PAIRS:
        if one in found and other in found:
            row: Row = {"pair": f"{one} / {other}", "kl_ratio": found[one].mean(found[other])}
            row |= {"bits": 8 * found[one].size / total, "their_bits": 8 * found[other].size / total}
            rows.append(row)
    whose = f"{INTERVAL}, both sides together: mean KL divergence from fp32 over the other's"
    return Table(name="ratios", cell={"model": name}, key="pair", interval=whose, rows=rows, **here("torch"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=LMS, default=list(LMS))
    parser.add_argument("--only", default="", help="measure those whose name matches this expression")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--work", type=Path, default=Path("build/quality"))
    option(parser, "quality")
    args = parser.parse_args()
    args.failed = []
    for name in args.model:
        found = measure(name, args)
        total = parameters(LMS[name])
        tables = [quality(name, found, total, args.tokens), ratios(name, found, total)]
        record(args.json, [table for table in tables if table.rows])
        for table in tables:
            print(f"{name}\n\n{table_of(table.rows)}\n")
    if args.failed:
        sys.exit("\n".join(args.failed))


if __name__ == "__main__":
    main()
