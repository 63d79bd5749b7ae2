"""What cliffs cost that `graphopt lint` finds, and what `--fix` gains: each planted model before and after.

    python benchmarks/lint.py            # all: two minutes
    python benchmarks/lint.py --only "zero points in floats"

Each model of tests/lint/_planted.py, at a size that is worth timing, is linted, mended, linted again and run
in turns with what it was on one thread: the least processor time of a call counts. Cliffs that no pass mends
are timed beside the same without them. What was found is merged into benchmarks/results/lint.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from _provenance import here
from _results import Row, Table, option, record

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from graphopt.build import lint, mend
from graphopt.recipes import OptimizeOptions
from tests.lint import _planted as planted

ROUNDS = 15
MODELS: Mapping[str, Callable[[Path], planted.Planted]] = {
    "an optimum-style int8 file": partial(
        planted.optimum_int8, width=384, heads=12, layers=4, batch=8, sequence=128
    ),
    "zero points in floats": partial(planted.float_zeros, width=2048, layers=2),
    "accuracy level 0, 4 bits": partial(planted.low_level, width=2048, layers=2),
    "accuracy level 0, 8 bits": partial(planted.low_level, width=2048, layers=2, bits=8),
    "Swish": partial(planted.swish, width=8192, rows=128, layers=4),
    "DequantizeLinear, Transpose, MatMul": partial(planted.turned_qdq, width=2048, layers=2),
    "BatchNormalization left in": partial(planted.batch_norm, channels=64, layers=6, size=56),
    "signed activations": partial(planted.signed_qdq, channels=64, layers=6, size=56),
}

_blocks = partial(planted.in_blocks, "", width=2048, layers=2)


def pairs() -> Mapping[str, tuple[planted.Planted, planted.Planted]]:
    """Cliffs that no pass mends, each beside the same without it."""
    return {
        "g_idx, 4 bits": (_blocks(ordered=True), _blocks()),
        "2 bits in blocks of 256": (_blocks(bits=2, block=256), _blocks(bits=2, block=128)),
    }


def least_seconds(files: list[Path], feeds: Mapping[str, np.ndarray]) -> list[float]:
    """The least processor time of a call of each file, on one thread, in turns."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = [ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]) for file in files]
    least = [float("inf")] * len(files)
    for turn in range(ROUNDS + 2):
        for index, session in enumerate(sessions):
            started = time.process_time()
            session.run(None, dict(feeds))
            spent = time.process_time() - started
            if turn >= 2:
                least[index] = min(least[index], spent)
    return least


def row(name: str, work: Path) -> Row:
    made = MODELS[name](work / "made")
    model, inputs = made.save(work / "model")
    report = lint(model)
    package = mend(model, work / "out", report, options=OptimizeOptions(inputs=inputs))
    assert package is not None
    before, after = least_seconds([model, package.path / "model.onnx"], made.feeds)
    left = lint(package.path)
    return {
        "model": name,
        "rules": ", ".join(rule.code for rule, _ in report.by_rule()),
        "places": len(report.found),
        "left": len(left.found),
        "closing": package.manifest.closing_check,
        "before_ms": 1e3 * before,
        "after_ms": 1e3 * after,
        "ratio": before / after,
    }


def pair(name: str, work: Path) -> Row:
    cliff, plain = pairs()[name]
    files = [each.save(work / kind)[0] for kind, each in (("cliff", cliff), ("plain", plain))]
    before, after = least_seconds(files, cliff.feeds)
    return {"model": name, "before_ms": 1e3 * before, "after_ms": 1e3 * after, "ratio": before / after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=[*MODELS, *pairs()], action="append")
    option(parser, "lint")
    args = parser.parse_args()
    tables: dict[str, list[Row]] = {"mended": [], "beside": []}
    for name in args.only or [*MODELS, *pairs()]:
        with tempfile.TemporaryDirectory() as work:
            is_mended = name in MODELS
            found = (row if is_mended else pair)(name, Path(work))
        tables["mended" if is_mended else "beside"].append(found)
        print(", ".join(f"{key} {_said(value)}" for key, value in found.items()), flush=True)
    interval = "least processor time of a call on one thread, of so many rounds in turns"
    record(
        args.json,
        [
            Table(name=name, key="model", rows=rows, interval=interval, **here(rounds=ROUNDS))
            for name, rows in tables.items()
            if rows
        ],
    )


def _said(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
