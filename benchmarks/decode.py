"""Text generation on a CPU: graphopt int4 beside llama.cpp, genai's builder, transformers and torch.

    python benchmarks/decode.py                                         # everything: ten hours or more
    python benchmarks/decode.py --shape llama-3.2-1b --prompt 256 --batch 1
    python benchmarks/decode.py --only damage
    python benchmarks/decode.py --only make --shape llama-3.2-1b        # what making them costs
    python benchmarks/decode.py --avx2 --shape llama-3.2-1b --prompt 256 --batch 1

Shapes are published ones with random weights, because speed does not depend on them: ours are rounded to
nearest there, whatever the recipe says (cost.py times recipes as they are). What each recipe costs in
accuracy is measured on the embedded model, on held-out text. Everyone reads the same prompt and then
chooses 64 tokens greedily, with as many threads as graphopt takes, but for those at their own defaults.
With --avx2 there are two: our products and attention in the form for AVX2, and llama.cpp compiled for it.
Everyone is measured in fresh processes, in turn, graphopt twice a round (the control). Rounds are kept in
WORK/decode.jsonl: a run that was killed goes on, one that has --minutes stops in time. Writes decode.md in
WORK, and merges what it found into benchmarks/results/decode.json.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _damage import damage_table, damages
from _provenance import OVER_ROUNDS, of_rounds
from _recipes import AVX2, EQUAL, GRAPHOPT, RECIPES, Recipe
from _results import Row, Table, option, record
from _rounds import AGAIN, Peer, Round, Rounds, deadline, footer, interval, median, ratio, rows_of, table
from make_model import SHAPES, write

from graphopt.metrics import Estimate
from graphopt.runtime import default_threads

SHAPE_ORDER = ("llama-3.2-1b", "qwen2.5-0.5b", "llama-3.2-3b")
PROMPTS = (256, 32, 2048)
BATCHES = (1, 4)
NEW = 64
Q4_K_M = "llama.cpp Q4_K_M"
MEASURED = ("prefill", "decode", "load_s", "peak_rss_mb")
BASES = (GRAPHOPT.name, AVX2[0].name)
"""Who others are compared with: the first of them that was measured."""


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
    return [*found, *(peer.again() for peer in found if peer.name in BASES)]


def base_of(rounds: Sequence[Round]) -> str:
    return next(name for name in BASES if name in rounds[0].results)


def cell_rows(rounds: Sequence[Round]) -> list[Row]:
    """One cell's peers, with how many times as fast graphopt is."""

    base = base_of(rounds)

    def measured(name: str, results: list[dict[str, Any]]) -> Row:
        middle = {key: median([one[key] for one in results]).value for key in MEASURED}
        row: Row = {key: middle[key] for key in ("prefill", "decode")}
        if name != base:
            row |= {f"{key}_ratio": ratio(rounds, base, name, key) for key in ("prefill", "decode")}
        return row | {"load_s": middle["load_s"], "peak_mb": middle["peak_rss_mb"]}

    return rows_of(rounds, measured)


def cell_table(cell: dict[str, Any], rounds: Sequence[Round], damage: dict[str, Any]) -> str:
    rows = []
    for one in cell_rows(rounds):
        if "failed" in one:
            rows.append([one["peer"], one["failed"], *["-"] * 6])
            continue
        row = [one["peer"], f"{one['prefill']:.1f}", f"{one['decode']:.1f}"]
        row += [interval(one[key]) if key in one else "1" for key in ("prefill_ratio", "decode_ratio")]
        row += [f"{one['load_s']:.1f}", f"{one['peak_mb']:.0f}"]
        kl = damage.get(one["peer"].removesuffix(AGAIN), {}).get("kl_mean")
        rows.append([*row, interval(Estimate(**kl), 4) if kl else "-"])
    header = ["", "prefill tok/s", "decode tok/s", "prefill: graphopt is", "decode: graphopt is"]
    header += ["load s", "peak MB", "KL on tiny-coder"]
    return f"{title(cell)}, {len(rounds)} rounds\n\n{table(header, rows)}\n"


def title(cell: dict[str, Any]) -> str:
    return f"{cell['shape']}, prompt {cell['prompt']}, batch {cell['batch']}"


Found = list[tuple[dict[str, Any], list[Round]]]


def long_and_short(found: Found) -> list[Table]:
    """Decode after the longest prompt over decode after the shortest, batch 1, of rounds that took turns."""
    tables = []
    for shape in SHAPES:
        rows: list[Row] = []
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
                rows.append({"peer": name, "left": kept})
        cell = {"shape": shape, "batch": 1, "short": short, "long": long}
        about = of_rounds([*cells[short], *cells[long]]) | {"rounds": len(cells[long])}
        whose = f"{OVER_ROUNDS}: decoding speed after the long prompt over that after the short one"
        tables.append(Table(name="left", cell=cell, key="peer", interval=whose, rows=rows, **about))
    return tables


def tables_of(found: Found) -> list[Table]:
    """What results keep of speeds."""
    speeds = []
    for cell, rounds in found:
        base = base_of(rounds)
        speeds.append(
            Table(
                name="speed" if base == GRAPHOPT.name else "avx2",
                cell=cell,
                key="peer",
                base=(base, base + AGAIN),
                interval=f"{OVER_ROUNDS}: how many times as fast {base} is",
                rows=cell_rows(rounds),
                **of_rounds(rounds),
            )
        )
    return speeds + equal_quality(found) + long_and_short(found)


def equal_quality(found: Found) -> list[Table]:
    """How many times as fast the package is that loses no more than Q4_K_M, where both were measured."""
    tables = []
    for cell, rounds in found:
        them = [r for r in rounds if {EQUAL.name, Q4_K_M} <= r.results.keys()]
        if them:
            keys = ("prefill", "decode")
            row: Row = {"peer": Q4_K_M} | {
                f"{key}_ratio": ratio(them, EQUAL.name, Q4_K_M, key) for key in keys
            }
            whose = f"{OVER_ROUNDS}: how many times as fast {EQUAL.name} is"
            tables.append(
                Table(name="equal", cell=cell, key="peer", interval=whose, rows=[row], **of_rounds(them))
            )
    return tables


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
        report(args, found, damage)
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
        if not rounds:
            continue
        rows: list[Row] = []
        for name in rounds[0].results:
            seconds, peak = ([r.results[name][key] for r in rounds] for key in ("seconds", "peak_rss_mb"))
            span = Estimate(median(seconds).value, min(seconds), max(seconds))
            rows.append({"peer": name, "seconds": span, "peak_gb": median(peak).value / 1000})
        texts = [[row["peer"], interval(row["seconds"], 0), f"{row['peak_gb']:.1f}"] for row in rows]
        print(f"{shape}, made {len(rounds)} times\n\n{table(['', 'seconds', 'peak GB'], texts)}\n")
        least = "least and most of the rounds"
        about = of_rounds(rounds)
        record(args.json, [Table(name="making", cell=cell, key="peer", interval=least, rows=rows, **about)])
    shutil.rmtree(args.work / "making", ignore_errors=True)


def report(args: argparse.Namespace, found: Found, damage: dict[str, Any]) -> None:
    tables = tables_of(found)
    record(args.json, tables)
    every = [one for _, rounds in found for one in rounds]
    text = "\n".join(cell_table(cell, rounds, damage) for cell, rounds in found)
    left = [
        [one.cell["shape"], row["peer"], f"{one.cell['long']} / {one.cell['short']}", interval(row["left"])]
        for one in tables
        if one.name == "left"
        for row in one.rows
    ]
    text += f"\n{table(['shape', '', 'prompts', 'decode speed that is left'], left)}\n" if left else ""
    text += (
        "Medians over rounds that took turns; ratios paired, with a 95 % bootstrap interval; "
        f"{NEW} new tokens, greedy, {args.threads} threads (defaults: the engine's own). KL: nats a token "
        f"from the fp32 model, the same recipe on tiny-coder's held-out text. {footer(every)}\n"
    )
    (args.work / "decode.md").write_text(text)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=SHAPE_ORDER)
    parser.add_argument("--prompt", nargs="+", type=int, default=PROMPTS)
    parser.add_argument("--batch", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--avx2", action="store_true", help="our AVX2 kernels beside llama.cpp compiled so")
    parser.add_argument("--peer", nargs="+", help="only those whose name matches this expression")
    parser.add_argument("--rounds", type=int, help="of each cell (default: 8 at 1.24 B, batch 1, else 3)")
    parser.add_argument("--minutes", type=float, help="begin no round later than this")
    parser.add_argument("--only", choices=["make", "speed", "damage"])
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--tokens", type=int, default=16384, help="of held-out text")
    parser.add_argument("--models", type=Path, default=Path("build/models"))
    parser.add_argument("--work", type=Path, default=Path("build/decode"))
    option(parser, "decode")
    args = parser.parse_args()
    everyone = AVX2 if args.avx2 else RECIPES
    recipes = [r for r in everyone if not args.peer or any(re.search(p, r.name) for p in args.peer)]
    args.work.mkdir(parents=True, exist_ok=True)
    if args.only == "make":
        making(recipes, args)
        return
    measure = not args.avx2 and args.only != "speed"
    damage = {} if args.avx2 else damages(recipes, args.work, args.tokens, measure=measure)
    if measure:
        record(args.json, [damage_table(recipes, damage, args.tokens)])
    if args.only != "damage" and not speed(recipes, args, damage):
        sys.exit("not all rounds are there yet: give the same command again")


if __name__ == "__main__":
    main()
