"""How much of what the machine can do a package reaches: bytes and operations, measured bounds, by operator.

    python benchmarks/roofline.py --shape llama-3.2-1b --rounds 3        # five minutes

Decoding is held against streaming reads of memory, over a buffer of at least eight times the last-level
cache, that take turns with it in the same process: the best token of a turn against the best read of that
turn; more than 100 % would be a measuring error. Also the median of all tokens against that of the best way
of reading, and against the fastest read of all. A prompt is held against the best product seen, fp32 or
8-bit integers. Writes roofline.md in WORK, and
merges what it found into benchmarks/results/roofline.json.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _provenance import of_rounds
from _recipes import GRAPHOPT, HERE
from _results import Row, Table, option, record
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


def bounds(cell: dict[str, Any], results: Sequence[dict[str, Any]]) -> list[Row]:
    """What bounds a package, and how much of it is reached."""
    work, prompt = results[0]["work"], cell["prompt"]
    read, flops, prompt_flops = (
        sum(one[key] for one in work.values()) for key in ("bytes", "flops", "prompt_flops")
    )
    best = share_of_turns(results, read)
    typical = median([100 * read / r["read_median"] / 1e6 / r["token_ms"] for r in results])
    strictest = median([100 * read / r["read_fastest"] / 1e6 / r["token_ms"] for r in results])
    reads = median([statistics.median(turn["read"] for turn in r["turns"]) for r in results])
    reached = median([100 * prompt_flops / max(r["peaks"].values()) / 1e6 / r["prompt_ms"] for r in results])

    def row(quantity: str, what: str, value: float | Estimate, unit: str) -> Row:
        return {"quantity": quantity, "what": what, "value": value, "unit": unit}

    def middle(key: str) -> Estimate:
        return median([r[key] for r in results])

    fp32, int8 = (median([r["peaks"][kind] for r in results]) for kind in ("fp32", "int8"))
    of_turns = "share of the reading bound: best token of a turn, best read of it"
    return [
        row("token_mb", "a token reads", read / 1e6, "MB"),
        row("token_gflop", "a token computes", flops / 1e9, "GFLOP"),
        row("read", "best streaming read of a turn", reads, "GB/s"),
        row("read_fastest", "the fastest of a process", middle("read_fastest"), "GB/s"),
        row("token", "a token takes", middle("token_ms"), "ms"),
        row("reading_share", of_turns, best, "%"),
        row("reading_share_typical", "median token, median read", typical, "%"),
        row("reading_share_strictest", "median token, fastest read of the process", strictest, "%"),
        row("fp32_product", "best fp32 product", fp32, "GFLOP/s"),
        row("int8_product", "best int8 product", int8, "GOP/s"),
        row("prompt", f"a prompt of {prompt} takes", middle("prompt_ms"), "ms"),
        row("computing_share", "share of the computing bound", reached, "%"),
    ]


def operators(results: Sequence[dict[str, Any]]) -> list[Row]:
    """Medians by kind of node, the slowest first; of bounds where it reads or computes."""
    work = results[0]["work"]
    reads = median([statistics.median(turn["read"] for turn in r["turns"]) for r in results]).value
    fast = median([max(r["peaks"].values()) for r in results]).value
    tokens = median_by_kind(results, "token_ms_by_kind")
    prompts = median_by_kind(results, "prompt_ms_by_kind")
    rows: list[Row] = []
    for name in sorted(tokens, key=lambda name: -tokens[name]):
        about = work.get(name, dict.fromkeys(("nodes", "bytes", "flops", "prompt_flops"), 0))
        ms, prompt_ms = tokens[name], prompts.get(name, 0.0)
        row: Row = {"operator": name, "nodes": int(about["nodes"]), "token_mb": about["bytes"] / 1e6}
        row |= {"token_ms": ms, "prompt_ms": prompt_ms}
        if about["bytes"]:
            rate = about["bytes"] / ms / 1e6
            row |= {"gbs": rate, "reading_percent": 100 * rate / reads}
        if about["flops"]:
            speed = about["prompt_flops"] / max(prompt_ms, 1e-6) / 1e6
            row |= {"gflops": speed, "computing_percent": 100 * speed / fast}
        rows.append(row)
    return rows


DIGITS = {"nodes": 0, "token_mb": 1, "token_ms": 2, "gbs": 1, "reading_percent": 0}
DIGITS |= {"prompt_ms": 1, "gflops": 0, "computing_percent": 0}


def cell_tables(cell: dict[str, Any], rounds: Sequence[Round]) -> list[Table]:
    """What results keep; nothing where a process failed."""
    results = [one.results[GRAPHOPT.name] for one in rounds]
    if any("error" in one for one in results):
        return []
    whose = "95 % bootstrap interval, over fresh processes, of the median"
    about = of_rounds(rounds)
    return [
        Table(name="bounds", cell=cell, key="quantity", interval=whose, rows=bounds(cell, results), **about),
        Table(name="operators", cell=cell, key="operator", rows=operators(results), **about),
    ]


def cell_text(cell: dict[str, Any], rounds: Sequence[Round]) -> str:
    if not (tables := cell_tables(cell, rounds)):
        failed = next(one["error"] for r in rounds for one in r.results.values() if "error" in one)
        return f"{cell['shape']}: failed: {failed}\n"

    def said(value: Any, unit: str) -> str:
        digits = 1 if unit in ("%", "GB/s", "ms") else 0
        text = interval(value, digits) if isinstance(value, Estimate) else f"{value:.{max(digits, 2)}f}"
        return f"{text} {unit}"

    whole = [[row["what"], said(row["value"], row["unit"])] for row in tables[0].rows]
    rows = [
        [row["operator"], *(f"{row[key]:.{n}f}" if key in row else "-" for key, n in DIGITS.items())]
        for row in tables[1].rows
    ]
    parts = [f"{cell['shape']}, {GRAPHOPT.name}, {len(rounds)} rounds", table(["", ""], whole)]
    parts += ["By operator, from onnxruntime's profile:", table(["operator", *DIGITS], rows)]
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
    parser.add_argument("--label", help="tells this run apart from others: the state of the machine, say")
    parser.add_argument("--work", type=Path, default=Path("build/roofline"))
    option(parser, "roofline")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    stream, worker = library(args.work), HERE / "_roofline_worker.py"
    kept, in_time, whole = Rounds(args.work / "roofline.jsonl"), deadline(args.minutes), True
    texts, every, tables = [], [], list[Table]()
    for shape in args.shape:
        package = GRAPHOPT.made(checkpoint(shape, args.models), args.decode / shape)
        for prompt in args.prompt:
            cell = {"shape": shape, "prompt": prompt, "new": args.new}
            cell |= {"label": args.label} if args.label else {}
            options = ["--prompt", prompt, "--new", args.new, "--threads", args.threads]
            command = [sys.executable, worker, package, stream, *options]
            made = stamp(worker, stream, package, *GRAPHOPT.uses)
            peer = Peer(GRAPHOPT.name, tuple(map(str, command)), made)
            whole &= kept.measure(cell, [peer], args.rounds, in_time)
            if rounds := kept.of(cell, [peer]):
                texts.append(cell_text(cell, rounds))
                tables += cell_tables(cell, rounds)
                every += rounds
    if every:
        text = "\n".join(texts) + (
            f"\nMedians of fresh processes with a 95 % bootstrap interval; {args.threads} threads. The "
            f"profile slows what it watches: its times by operator add up to more. {footer(every)}\n"
        )
        (args.work / "roofline.md").write_text(text)
        print(text)
        record(args.json, tables)
    if not whole:
        sys.exit("not all rounds are there yet: give the same command again")


if __name__ == "__main__":
    main()
