"""What a cache of integers costs far into a text, where keys are turned by angles that calibration never saw.

    python benchmarks/long.py                    # minutes
    python benchmarks/long.py --model FOLDER     # any language model of that many positions

KL divergence from the model in fp32 on the embedded held-out text in windows of 3,072 tokens, each read from
its beginning, by how far into the window a token stands. Scales are of calibration text in windows of 512.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _contenders import ours
from _damage import logits_of, torch_logits
from _lms import HERE, WEIGHTS, Tokens
from _provenance import here
from _recipes import Recipe
from _results import Row, Table, option, record
from _rounds import interval
from _rounds import table as in_columns

from graphopt.evaluate._corpus import built_in_corpus
from graphopt.evaluate._tokens import compare_tokens
from graphopt.metrics import Documents, estimate
from graphopt.runtime import Tokenizer

LONG = HERE / "lms" / "tiny-qwen3-long"
WINDOW = 3072
ENDS = (0, 1024, 2048, WINDOW)
"""Of stretches of a window; the last is what is asked for."""
_PACKAGES = (
    ("fp32 weights, int8 cache", "lossless", 8),
    ("fp32 weights, 4-bit cache", "lossless", 4),
    ("int8", "int8", None),
    ("int8, int8 cache", "int8", 8),
    ("int4", "int4", None),
    ("int4, 4-bit cache", "int4", 4),
)
"""What they are called, the recipe that they begin as, and bits of the cache where it is not in float."""
_INTERVAL = "95 % bootstrap interval, over windows; mean KL divergence from fp32 in nats a token"


def recipes(work: Path) -> Iterator[Recipe]:
    for name, base, bits in _PACKAGES:
        recipe = slug = base
        if bits:
            slug = f"{base}-kv{bits}"
            recipe = str(work / f"{slug}.toml")
            step = f'[[group.store]]\nname = "quantize-kv"\nbits = {bits}\n'
            Path(recipe).write_text(f'description = ""\nextends = "{base}"\n{step}')
        yield ours(name, slug, recipe)


def windows(source: Path) -> list[Tokens]:
    """The whole held-out text in tokens int64[WINDOW]; what is left of it is not read."""
    ids = np.asarray(Tokenizer(source).plain(built_in_corpus().text), np.int64)
    return np.split(ids[: len(ids) // WINDOW * WINDOW], len(ids) // WINDOW)


def row_of(name: str, divergence: list[np.ndarray[Any, Any]]) -> Row:
    row: Row = {"peer": name}
    for begin, end in pairwise(ENDS):
        row[f"kl_{end}"] = estimate(Documents(tuple(one[begin:end] for one in divergence)))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=LONG)
    parser.add_argument("--work", type=Path, default=Path("build/long"))
    option(parser, "long")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not (args.model / WEIGHTS).is_file():
        parser.error(f"{args.model} has no {WEIGHTS}")
    texts = windows(args.model)
    reference = torch_logits(args.model, "float32")
    expected = [reference(text).astype(np.float32) for text in texts]
    rows: list[Row] = []
    for recipe in recipes(args.work):
        made = recipe.made(args.model, args.work / args.model.name)
        logits = logits_of(recipe, made, texts, args.work)
        compared = (compare_tokens([logits(t)], e, t)[0] for t, e in zip(texts, expected, strict=True))
        rows.append(row_of(recipe.name, [one.divergence for one in compared]))
    table = Table(
        name="long",
        cell={"model": args.model.name, "window": WINDOW, "windows": len(texts)},
        key="peer",
        interval=_INTERVAL,
        rows=rows,
        **here("torch"),
    )
    record(args.json, [table])
    columns = list(rows[0])[1:]
    texts = ([str(row["peer"]), *(interval(row[name], 5) for name in columns)] for row in rows)
    print(in_columns(["", *columns], texts))


if __name__ == "__main__":
    main()
