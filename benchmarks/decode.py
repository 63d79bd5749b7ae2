"""Text generation on a CPU: graphopt int4 beside llama.cpp, genai's builder, transformers and torch.

    python benchmarks/decode.py                                         # everything: ten hours or more
    python benchmarks/decode.py --shape llama-3.2-1b --prompt 256 --batch 1
    python benchmarks/decode.py --only damage
    python benchmarks/decode.py --only make --shape llama-3.2-1b        # what making them costs

Shapes are published ones with random weights, because speed does not depend on them; what each recipe costs
in accuracy is measured on the embedded model, on held-out text. Everyone reads the same prompt and then
chooses 64 tokens greedily, with as many threads as graphopt takes, but for those at their own defaults.
Everyone is measured in fresh processes, in turn, graphopt twice a round (the control). Rounds are kept in
WORK/decode.jsonl: a run that was killed goes on, one that has --minutes stops in time. Writes decode.json and
decode.md in WORK.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _damage import damages
from _recipes import GRAPHOPT, RECIPES, Recipe
from _rounds import AGAIN, Peer, Round, Rounds, deadline, footer, interval, median, ratio, table
from make_model import SHAPES, write

from graphopt.metrics import Estimate
from graphopt.runtime import default_threads

SHAPE_ORDER = ("llama-3.2-1b", "qwen2.5-0.5b", "llama-3.2-3b")
PROMPTS = (256, 32, 2048)
BATCHES = (1, 4)
NEW = 64


def rounds_of(shape: str, batch: int) -> int:
    """Eight where the goals are, three elsewhere."""
    return 8 if shape == "llama-3.2-1b" and batch == 1 else 3


def checkpoint(shape: str, models: Path) -> Path:
    folder = models / shape
    if not (folder / "config.json").is_file():
        write(folder, shape)
    return folder


def cell_peers(recipes: Sequence[Recipe], cell: dict[str, Any], args: argparse.Namespace) -> list[Peer]:
    """Who is measured in a cell, everyone made, and the control."""
    source = checkpoint(cell["shape"], args.models)
    folder = args.work / cell["shape"]
    options = {key: cell[key] for key in ("prompt", "new", "batch")}
    found = [r.peer(r.made(source, folder), args.threads, **options) for r in recipes]
    return [*found, *(peer.again() for peer in found if peer.name == GRAPHOPT.name)]


def cell_table(cell: dict[str, Any], rounds: Sequence[Round], damage: dict[str, Any]) -> str:
    """One cell's peers, with how many times as fast graphopt is."""
    rows = []
    for name in rounds[0].results:
        results = [r.results[name] for r in rounds]
        failed = next((one["error"] for one in results if "error" in one), None)
        if failed is not None:
            rows.append([name, f"failed: {failed[:80]}", *["-"] * 6])
            continue
        row = [name]
        row += [f"{median([one[key] for one in results]).value:.1f}" for key in ("prefill", "decode")]
        row += [
            "1" if name == GRAPHOPT.name else interval(ratio(rounds, GRAPHOPT.name, name, key))
            for key in ("prefill", "decode")
        ]
        row += [f"{median([one['load_s'] for one in results]).value:.1f}"]
        row += [f"{median([one['peak_rss_mb'] for one in results]).value:.0f}"]
        kl = damage.get(name.removesuffix(AGAIN), {}).get("kl_mean")
        rows.append([*row, interval(Estimate(**kl), 4) if kl else "-"])
    header = ["", "prefill tok/s", "decode tok/s", "prefill: graphopt is", "decode: graphopt is"]
    header += ["load s", "peak MB", "KL on tiny-coder"]
    return f"{title(cell)}, {len(rounds)} rounds\n\n{table(header, rows)}\n"


def title(cell: dict[str, Any]) -> str:
    return f"{cell['shape']}, prompt {cell['prompt']}, batch {cell['batch']}"


def long_and_short(found: list[tuple[dict[str, Any], list[Round]]]) -> str:
    """Decode after the longest prompt over decode after the shortest, batch 1, of rounds that took turns."""
    lines = []
    for shape in SHAPES:
        cells = {c["prompt"]: r for c, r in found if c["shape"] == shape and c["batch"] == 1}
        if len(cells) < 2:
            continue
        short, long = min(cells), max(cells)
        for name in cells[short][0].results:
            pairs = [
                (b.results[name], a.results[name])
                for a, b in zip(cells[short], cells[long], strict=False)
                if name in b.results
            ]
            if pairs and not any("error" in one for pair in pairs for one in pair):
                kept = median([b["decode"] / a["decode"] for b, a in pairs])
                lines.append([shape, name, f"{long} / {short}", interval(kept)])
    return table(["shape", "", "prompts", "decode speed that is left"], lines) + "\n" if lines else ""


def speed(recipes: Sequence[Recipe], args: argparse.Namespace, damage: dict[str, Any]) -> bool:
    cells = [
        {"shape": shape, "prompt": prompt, "new": NEW, "batch": batch}
        for shape, batch, prompt in itertools.product(args.shape, args.batch, args.prompt)
    ]
    kept, whole = Rounds(args.work / "decode.jsonl"), True
    everyone = [(cell, cell_peers(recipes, cell, args)) for cell in cells]
    in_time = deadline(args.minutes)  # making does not count
    wanted = [args.rounds or rounds_of(cell["shape"], cell["batch"]) for cell in cells]
    for number in range(max(wanted)):
        for (cell, them), count in zip(everyone, wanted, strict=True):
            print(f"round {number + 1} of {title(cell)}", file=sys.stderr, flush=True)
            whole &= kept.measure(cell, them, min(number + 1, count), in_time)
    found = [(cell, rounds) for cell, them in everyone if (rounds := kept.of(cell, them))]
    if found:
        report(args.work, found, damage, args.threads)
    return whole


def making(recipes: Sequence[Recipe], args: argparse.Namespace) -> None:
    """Make everyone anew, in turn, and show seconds and memory: median [least, most]."""
    kept, in_time = Rounds(args.work / "make.jsonl"), deadline(args.minutes)
    for shape in args.shape:
        source, cell = checkpoint(shape, args.models), {"shape": shape}
        folder = args.work / "making" / shape
        makers = [maker for recipe in recipes if (maker := recipe.maker(source, folder))]
        kept.measure(cell, makers, args.rounds or 3, in_time)
        rounds = kept.of(cell, makers)
        rows = []
        for name in rounds[0].results if rounds else ():
            found = [[one.results[name][key] for one in rounds] for key in ("seconds", "peak_rss_mb")]
            rows.append([name, *(f"{median(v).value:.0f} [{min(v):.0f}, {max(v):.0f}]" for v in found)])
        print(f"{shape}, made {len(rounds)} times\n\n{table(['', 'seconds', 'peak MB'], rows)}\n")
    shutil.rmtree(args.work / "making", ignore_errors=True)


def report(
    work: Path, found: list[tuple[dict[str, Any], list[Round]]], damage: dict[str, Any], threads: int
) -> None:
    every = [one for _, rounds in found for one in rounds]
    text = "\n".join(cell_table(cell, rounds, damage) for cell, rounds in found)
    text += f"\n{long_and_short(found)}\n"
    text += (
        "Medians over rounds that took turns; ratios paired, with a 95 % bootstrap interval; "
        f"{NEW} new tokens, greedy, {threads} threads (defaults: the engine's own). KL: nats a token from "
        f"the fp32 model, the same recipe on tiny-coder's held-out text. {footer(every)}\n"
    )
    (work / "decode.md").write_text(text)
    facts = {"damage": damage, "rounds": [one.__dict__ for one in every]}
    (work / "decode.json").write_text(json.dumps(facts, indent=1))
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=SHAPE_ORDER)
    parser.add_argument("--prompt", nargs="+", type=int, default=PROMPTS)
    parser.add_argument("--batch", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--peer", nargs="+", help="only those whose name matches this expression")
    parser.add_argument("--rounds", type=int, help="of each cell (default: 8 at 1.24 B, batch 1, else 3)")
    parser.add_argument("--minutes", type=float, help="begin no round later than this")
    parser.add_argument("--only", choices=["make", "speed", "damage"])
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--tokens", type=int, default=16384, help="of held-out text")
    parser.add_argument("--models", type=Path, default=Path("build/models"))
    parser.add_argument("--work", type=Path, default=Path("build/decode"))
    args = parser.parse_args()
    recipes = [r for r in RECIPES if not args.peer or any(re.search(p, r.name) for p in args.peer)]
    args.work.mkdir(parents=True, exist_ok=True)
    if args.only == "make":
        making(recipes, args)
        return
    damage = damages(recipes, args.work, args.tokens, measure=args.only != "speed")
    if args.only != "damage" and not speed(recipes, args, damage):
        sys.exit("not all rounds are there yet: give the same command again")


if __name__ == "__main__":
    main()
