"""What each recipe costs in accuracy: KL divergence from fp32 on the embedded model's held-out text."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _provenance import here
from _recipes import HERE, ROOT, Recipe
from _results import Row, Table
from _rounds import interval, stamp, table

from graphopt import Package
from graphopt.evaluate import compare_language_models, session_logits
from graphopt.evaluate._corpus import built_in_corpus, sequences
from graphopt.metrics import Estimate
from graphopt.runtime import Tokenizer, open_session

SOURCE = ROOT / "models" / "tiny_coder"
Tokens = np.ndarray[Any, np.dtype[np.int64]]
Logits = Callable[[Tokens], np.ndarray[Any, Any]]


def damages(
    recipes: Sequence[Recipe], work: Path, tokens: int, *, measure: bool
) -> dict[str, dict[str, Any]]:
    """Comparisons by recipe, kept in WORK/damage.json; new ones are made only where `measure`."""
    file = work / "damage.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    if not measure:
        return known
    texts = [
        window.tokens
        for window in sequences(built_in_corpus(), Tokenizer(SOURCE), tokens=tokens, context=None)
    ]
    reference = torch_logits(SOURCE, "float32")
    for recipe in recipes:
        whole = replace(recipe, make=recipe.whole or recipe.make)
        model = whole.made(SOURCE, work / "tiny-coder")
        state = f"{stamp(model, *recipe.uses)} {tokens}"
        if known.get(recipe.name, {}).get("made") != state:
            with tempfile.TemporaryDirectory() as scratch:
                logits = logits_of(recipe, model, texts, Path(scratch))
                found = compare_language_models(logits, reference, texts).to_json()
            known[recipe.name] = {"made": state, **found}
            file.write_text(json.dumps(known, indent=1))
    return known


def damage_table(recipes: Sequence[Recipe], known: dict[str, dict[str, Any]], tokens: int) -> Table:
    """What results keep of it; printed, too."""
    rows: list[Row] = []
    for name in (recipe.name for recipe in recipes):
        kl, far, top = (known[name][key] for key in ("kl_mean", "kl_p99", "top1_agreement"))
        top1 = 100 * top["value"]
        rows.append({"peer": name, "kl_mean": Estimate(**kl), "kl_p99": far["value"], "top1_percent": top1})
    texts = [
        [row["peer"], interval(row["kl_mean"], 5), f"{row['kl_p99']:.4f}", f"{row['top1_percent']:.2f} %"]
        for row in rows
    ]
    print(table(["tiny-coder", "mean KL, nats a token", "99th percentile", "top-1 agreement"], texts))
    whose = "95 % bootstrap interval, over pieces of the held-out text, of the mean KL divergence from fp32"
    cell = {"model": "tiny-coder", "tokens": tokens}
    return Table(name="damage", cell=cell, key="peer", interval=whose, rows=rows, **here("torch"))


def logits_of(recipe: Recipe, model: Path, texts: list[Tokens], scratch: Path) -> Logits:
    """The function from tokens int64[S] to logits [S, V] that the recipe made."""
    if recipe.worker == "_llama_worker.py":
        return llama_logits(recipe.python, model, texts, scratch)
    if recipe.worker == "_torch_worker.py":
        return torch_logits(model, "bfloat16")
    if recipe.file == "fp32":
        return torch_logits(model, "float32")
    if recipe.worker == "_transformers_worker.py":
        return exported_logits(model)
    if recipe.worker == "_genai_worker.py":
        return genai_logits(model)
    return session_logits(Package.load(model).session())


def torch_logits(source: Path, dtype: str) -> Logits:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype)).eval()

    def logits(tokens: Tokens) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            found: np.ndarray[Any, Any] = model(torch.from_numpy(tokens[None])).logits[0].float().numpy()
            return found

    return logits


def genai_logits(folder: Path) -> Logits:
    """A builder's graph, by what its configuration says of the cache: the graph itself leaves that open."""
    about = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
    session = open_session(folder / about["filename"])
    cache = np.zeros((1, about["num_key_value_heads"], 0, about["head_size"]), np.float32)
    past = {spec.name: cache for spec in session.get_inputs() if spec.name.startswith("past_")}

    def logits(tokens: Tokens) -> np.ndarray[Any, Any]:
        feeds = {"input_ids": tokens[None], "attention_mask": np.ones((1, len(tokens)), np.int64)}
        found: np.ndarray[Any, Any] = session.run(["logits"], feeds | past)[0][0]
        return found

    return logits


def exported_logits(model: Path) -> Logits:
    import argparse

    from _transformers_worker import Exported

    engine = Exported(argparse.Namespace(model=model, threads=0))

    def logits(tokens: Tokens) -> np.ndarray[Any, Any]:
        engine.forget(1)
        return engine.logits(tokens[None])[0]

    return logits


def llama_logits(python: Path, model: Path, texts: list[Tokens], scratch: Path) -> Logits:
    """llama.cpp has its own environment: it runs all texts there, and its answers are given out in turn."""
    np.savez(scratch / "texts.npz", *texts)
    out = scratch / "logits.npy"
    command = [python, HERE / "_gguf.py", "--logits", model, scratch / "texts.npz", out]
    subprocess.run([str(word) for word in command], check=True)
    answers = _pieces(np.load(out, mmap_mode="r"), texts)
    return lambda tokens: next(answers)


def _pieces(rows: np.ndarray[Any, Any], texts: list[Tokens]) -> Iterator[np.ndarray[Any, Any]]:
    start = 0
    for tokens in texts:
        yield np.array(rows[start : start + len(tokens)])
        start += len(tokens)
