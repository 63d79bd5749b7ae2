"""What a million tokens cost on machines that are hired, by size of the model: docs/cost.md.

    python benchmarks/hosting.py         # a minute: nothing is measured, all is predicted

It runs `graphopt plan --machines ... --json` once, over shapes without weights, keeps what that says in
benchmarks/results/plans/hosting.json, and `make performance` renders the page. The first machine is this one,
as `graphopt targets profile` measured it, at a price that is assumed; the others are cited from data sheets.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from _results import RESULTS

SHAPES = ("llama-3.2-1b", "llama-3.1-8b", "llama-3.1-70b", "llama-like-180b")
API = (30.0, 60.0)
"""Dollars for a million tokens read and written: $0.03 and $0.06 for a thousand."""
PROMPT, NEW = 1024, 256
TPOT = "100ms"
"""Somebody reads ten tokens a second."""


def words(machines: str) -> list[str]:
    """The command, as one would type it."""
    found = ["plan", *SHAPES, "--machines", machines, "--api-price", ",".join(f"{one:g}" for one in API)]
    found += ["--prompt-tokens", str(PROMPT), "--new-tokens", str(NEW), "--budget", f"tpot={TPOT}"]
    return [*found, "--json", "-"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machines", default="here@0.1,h200,mi300x,graviton4")
    parser.add_argument("--json", type=Path, default=RESULTS / "plans" / "hosting.json")
    args = parser.parse_args()
    asked = words(args.machines)
    found = subprocess.run(
        [sys.executable, "-m", "graphopt", *asked], check=True, capture_output=True, text=True
    ).stdout
    data = {"command": f"graphopt {' '.join(asked[:-2])}", **json.loads(found)}
    args.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
