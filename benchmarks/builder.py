"""graphopt int4 against onnxruntime-genai's own builder: time and memory to make a package, then its speed.

    python benchmarks/builder.py build/llama-1b --work build/builder --rounds 6

Makes three packages from one checkpoint: graphopt's, the builder's at its defaults, and the builder's at the
same block size with a pruned head (run with as many threads as graphopt uses). Each is then measured in fresh
processes, interleaved, graphopt twice a round (the A/A control). Writes
builder.json and builder.md in the work folder.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WORKER = Path(__file__).with_name("_genai_worker.py")


def make(name: str, command: list[str], folder: Path) -> dict[str, float]:
    """Run a command that makes `folder`; wall seconds and peak resident megabytes of its largest process."""
    print(f"{name}: {' '.join(command)}", file=sys.stderr)
    log = folder.with_suffix(".log").open("w")
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name} failed, see {log.name}")
    return {"seconds": time.perf_counter() - started, "peak_rss_mb": usage.ru_maxrss / 1024}


def builder(source: Path, folder: Path, *extra: str) -> list[str]:
    return [
        sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(folder),
        "-p", "int4", "-e", "cpu", "-c", str(folder.with_suffix(".cache")),
        *(["--extra_options", *extra] if extra else []),
    ]  # fmt: skip


def interval(ratios: np.ndarray) -> tuple[float, float, float]:
    """Median ratio and a 95 % bootstrap interval of it."""
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(ratios, (4000, len(ratios))), axis=1)
    return float(np.median(ratios)), *(float(q) for q in np.percentile(draws, [2.5, 97.5]))


def _made(times: list[dict[str, float]], key: str) -> str:
    values = [t[key] for t in times]
    return f"{np.median(values):.0f} [{min(values):.0f}, {max(values):.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/builder"))
    parser.add_argument("--makes", type=int, default=3, help="how often each package is made")
    parser.add_argument("--rounds", type=int, default=6, help="how often each package is measured")
    parser.add_argument("--block", type=int, default=128)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    threads = len(os.sched_getaffinity(0))

    ours, plain, tuned = (args.work / n for n in ("graphopt", "builder", "builder-tuned"))
    graphopt = [
        sys.executable, "-m", "graphopt", "optimize", str(args.source), "-o", str(ours), "--recipe", "int4",
        "--no-validate", "--no-cache", "--force", "--set", f"quantize-weights.block_size={args.block}",
    ]  # fmt: skip
    commands = {
        "graphopt": (graphopt, ours),
        "builder": (builder(args.source, plain), plain),
        "builder-tuned": (
            builder(args.source, tuned, f"int4_block_size={args.block}", "prune_lm_head=1"),
            tuned,
        ),
    }
    made: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for number in range(args.makes):
        for name in commands if number % 2 == 0 else reversed(commands):
            made[name].append(make(name, *commands[name]))
            print(number, name, made[name][-1], file=sys.stderr)
    runs = {
        "graphopt": (ours, threads),
        "builder": (plain, 0),
        "builder-tuned": (tuned, threads),
        "graphopt again": (ours, threads),
    }
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for number in range(args.rounds):
        names = list(runs) if number % 2 == 0 else list(reversed(runs))
        for name in names:
            folder, count = runs[name]
            command = [
                sys.executable,
                str(WORKER),
                str(folder),
                "--prompt",
                str(args.prompt),
                "--new",
                str(args.new),
            ]
            output = subprocess.run(
                [*command, "--threads", str(count)], check=True, capture_output=True, text=True
            )
            measured[name].append(json.loads(output.stdout.splitlines()[-1]))
            print(number, name, {k: round(v, 1) for k, v in measured[name][-1].items()}, file=sys.stderr)

    lines = [
        "| | make s | make peak MB | load s | prefill tok/s | decode tok/s | prefill ratio | decode ratio |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, rows in measured.items():
        cells = [name]
        cells += [_made(made[name], key) for key in ("seconds", "peak_rss_mb")] if name in made else ["", ""]
        cells += [
            f"{np.median([r[k] for r in rows]):.1f}" for k in ("load_s", "prefill_tok_s", "decode_tok_s")
        ]
        for key in ("prefill_tok_s", "decode_tok_s"):
            ratios = np.array([a[key] / b[key] for a, b in zip(measured["graphopt"], rows, strict=True)])
            cells.append("1" if name == "graphopt" else "{:.2f} [{:.2f}, {:.2f}]".format(*interval(ratios)))
        lines.append("| " + " | ".join(cells) + " |")
    versions = {
        p: importlib.metadata.version(p)
        for p in ("onnxruntime", "onnxruntime-genai", "torch", "transformers")
    }
    facts = {
        "machine": platform.processor() or platform.machine(),
        "threads": threads,
        "versions": versions,
        **vars(args),
    }
    lines.append("")
    lines.append(
        f"Prompt {args.prompt}, {args.new} new tokens, batch 1, block {args.block}, {args.rounds} "
        f"interleaved rounds ({args.makes} for making: median [least, most]), {threads} threads "
        "(builder: its own default); medians; ratio: "
        "graphopt's over the row's, paired, with a 95 % bootstrap interval. "
        + ", ".join(f"{k} {v}" for k, v in versions.items())
        + "."
    )
    (args.work / "builder.json").write_text(
        json.dumps({"facts": facts, "made": made, "measured": measured}, default=str, indent=1)
    )
    (args.work / "builder.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
