"""How much of what the machine can do a package reaches: bytes and operations, measured bounds, by operator.

    python benchmarks/roofline.py --shape llama-3.2-1b --rounds 3        # five minutes

Decoding is held against streaming reads of memory, over a buffer of at least eight times the last-level
cache, that take turns with it in the same process: the best token of a turn against the best read of that
turn; more than 100 % would be a measuring error. Also the median of all tokens against that of the best way
of reading, and against the fastest read of all. A prompt is held against the best product seen, fp32 or
8-bit integers. Writes roofline.json and roofline.md in WORK.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _recipes import GRAPHOPT, HERE
from _rounds import Estimate, Peer, Round, Rounds, deadline, footer, interval, median, stamp, table
from decode import checkpoint
from make_model import SHAPES

from graphopt.runtime import default_threads

STREAM = HERE / "_stream.c"


def library(work: Path) -> Path:
    out = work / f"stream-{stamp(STREAM)}.so"
    if not out.is_file():
        flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, str(STREAM), "-o", str(out)], check=True)
    return out


def cell_text(cell: dict[str, Any], rounds: Sequence[Round]) -> str:
    results = [one.results[GRAPHOPT.name] for one in rounds]
    failed = next((one["error"] for one in results if "error" in one), None)
    if failed is not None:
        return f"{cell['shape']}: failed: {failed}\n"
    work, prompt = results[0]["work"], cell["prompt"]
    read, flops, prompt_flops = (
        sum(one[key] for one in work.values()) for key in ("bytes", "flops", "prompt_flops")
    )
    best = share_of_turns(results, read)
    typical = median([100 * read / r["read_median"] / 1e6 / r["token_ms"] for r in results])
    strictest = median([100 * read / r["read_fastest"] / 1e6 / r["token_ms"] for r in results])
    reads = median([statistics.median(turn["read"] for turn in r["turns"]) for r in results])
    fast = median([max(r["peaks"].values()) for r in results])
    reached = median([100 * prompt_flops / max(r["peaks"].values()) / 1e6 / r["prompt_ms"] for r in results])
    whole = [
        ["a token reads", f"{read / 1e6:.0f} MB, {prompt} to {prompt + cell['new']} tokens before it"],
        ["a token computes", f"{flops / 1e9:.2f} GFLOP"],
        ["best streaming read of a turn", f"{interval(reads, 1)} GB/s"],
        ["the fastest of a process", f"{interval(median([r['read_fastest'] for r in results]), 1)} GB/s"],
        ["a token takes", f"{interval(median([r['token_ms'] for r in results]), 1)} ms"],
        ["**share of the reading bound**: best token of a turn, best read of it", f"{interval(best, 1)} %"],
        ["median token, median read", f"{interval(typical, 1)} %"],
        ["median token, fastest read of the process", f"{interval(strictest, 1)} %"],
        ["best fp32 product", f"{interval(median([r['peaks']['fp32'] for r in results]), 0)} GFLOP/s"],
        ["best int8 product", f"{interval(median([r['peaks']['int8'] for r in results]), 0)} GOP/s"],
        [f"a prompt of {prompt} takes", f"{interval(median([r['prompt_ms'] for r in results]), 0)} ms"],
        ["**share of the computing bound**", f"{interval(reached, 1)} %"],
    ]
    rows = []
    tokens = median_by_kind(results, "token_ms_by_kind")
    prompts = median_by_kind(results, "prompt_ms_by_kind")
    for name in sorted(tokens, key=lambda name: -tokens[name]):
        about = work.get(name, dict.fromkeys(("nodes", "bytes", "flops", "prompt_flops"), 0))
        ms, prompt_ms = tokens[name], prompts.get(name, 0.0)
        rate, speed = about["bytes"] / ms / 1e6, about["prompt_flops"] / max(prompt_ms, 1e-6) / 1e6
        rows.append(
            [
                name,
                f"{about['nodes']:.0f}",
                f"{about['bytes'] / 1e6:.1f}",
                f"{ms:.2f}",
                f"{rate:.1f}" if about["bytes"] else "-",
                f"{100 * rate / reads.value:.0f} %" if about["bytes"] else "-",
                f"{prompt_ms:.1f}",
                f"{speed:.0f}" if about["flops"] else "-",
                f"{100 * speed / fast.value:.0f} %" if about["flops"] else "-",
            ]
        )
    header = ["operator", "nodes", "MB a token", "ms a token", "GB/s", "of the bound"]
    header += ["ms a prompt", "GFLOP/s", "of the bound"]
    parts = [f"{cell['shape']}, {GRAPHOPT.name}, {len(rounds)} rounds", table(["", ""], whole)]
    parts += ["By operator, from onnxruntime's profile:", table(header, rows)]
    return "\n\n".join(parts) + "\n"


def share_of_turns(results: Sequence[dict[str, Any]], read: float) -> Estimate:
    """Percent; of a process the median over its turns."""
    shares = [[100 * read / turn["read"] / 1e6 / turn["token_ms"] for turn in r["turns"]] for r in results]
    return median([statistics.median(one) for one in shares])


def median_by_kind(results: Sequence[dict[str, Any]], key: str) -> dict[str, float]:
    return {name: median([one[key].get(name, 0.0) for one in results]).value for name in results[0][key]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=("llama-3.2-1b",))
    parser.add_argument("--prompt", nargs="+", type=int, default=(256,))
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="begin no round later than this")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--models", type=Path, default=Path("build/models"))
    parser.add_argument("--decode", type=Path, default=Path("build/decode"), help="packages of decode.py")
    parser.add_argument("--work", type=Path, default=Path("build/roofline"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    stream, worker = library(args.work), HERE / "_roofline_worker.py"
    kept, in_time, whole = Rounds(args.work / "roofline.jsonl"), deadline(args.minutes), True
    texts, every = [], []
    for shape in args.shape:
        package = GRAPHOPT.made(checkpoint(shape, args.models), args.decode / shape)
        for prompt in args.prompt:
            cell = {"shape": shape, "prompt": prompt, "new": args.new}
            options = ["--prompt", prompt, "--new", args.new, "--threads", args.threads]
            command = [sys.executable, worker, package, stream, *options]
            made = stamp(worker, stream, package, *GRAPHOPT.uses)
            peer = Peer(GRAPHOPT.name, tuple(map(str, command)), made)
            whole &= kept.measure(cell, [peer], args.rounds, in_time)
            if rounds := kept.of(cell, [peer]):
                texts.append(cell_text(cell, rounds))
                every += rounds
    if every:
        text = "\n".join(texts) + (
            f"\nMedians of fresh processes with a 95 % bootstrap interval; {args.threads} threads. The "
            f"profile slows what it watches: its times by operator add up to more. {footer(every)}\n"
        )
        (args.work / "roofline.md").write_text(text)
        rounds_json = json.dumps({"rounds": [one.__dict__ for one in every]}, indent=1)
        (args.work / "roofline.json").write_text(rounds_json)
        print(text)
    if not whole:
        sys.exit("not all rounds are there yet: give the same command again")


if __name__ == "__main__":
    main()
