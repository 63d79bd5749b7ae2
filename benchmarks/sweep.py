"""What a sweep costs beside its trials, and whether a node that goes changes what comes of it.

    python benchmarks/sweep.py

60 trials three times, each from an empty cache but for the export of the model: the whole of a grid, on two
nodes of one core on this machine; chosen by Optuna, eight under way at once, with one option more that is a
range, so that few repeat; and the grid again, with a node killed midway and another one in its place. A trial
is a package of the embedded model with other bits, blocks and embeddings, compared with its source on 4,096
tokens, as by default; nothing is timed. *Orchestration* is the share of the wall clock that the trials' own
seconds over the cores do not explain: choosing, sending, keeping, connecting to Ray, starting workers, and
cores that had nothing to do. Trials that Optuna suggests twice are done once, and their seconds count once.
*Load* is the mean number of processes that ran or waited in the five minutes before the end, of which two are
the sweep's.
Merged into benchmarks/results/sweep.json; ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from _provenance import here
from _results import Row, Table, option, record

from graphopt.sweep import Engine, Spec, Sweep, Trial, measured, sweep

TRIALS = int(os.environ.get("TRIALS", "60"))
OPTIONS: dict[str, Any] = {
    "quantize-weights.bits": [4, 8],
    "quantize-weights.block_size": [16, 32, 64, 128, 256],
    "quantize-weights.embedding": ["tied", "all", "keep"],
    "quantize-weights.search": [True, False],
}
RANGE = {"quantize-weights.smallest": {"low": 4096, "high": 65536, "log": True}}
SWEEPS = (
    ("grid", "grid", TRIALS, False),
    ("optuna", "auto", 8, False),
    ("grid, a node killed midway", "grid", TRIALS, True),
)
_OBJECTS = 80 << 20
_NICENESS = "RAY_worker_niceness"


def spec(sampler: str, at_once: int) -> Spec:
    said = {
        "source": "tiny-coder",
        "recipe": "int8",
        "objective": ["kl_mean", "weight_bytes"],
        "trials": TRIALS,
    }
    options = OPTIONS if sampler == "grid" else OPTIONS | RANGE
    said |= {"options": options, "sampler": sampler, "at_once": at_once}
    return Spec.model_validate(said)


class Nodes:
    """A cluster of this machine: a head that does no task, and nodes of one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ[_NICENESS] = "0"  # as where graphopt starts Ray
        head = {"num_cpus": 0, "object_store_memory": _OBJECTS, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add(), self.add()]

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=_OBJECTS)

    def replace_one(self) -> None:
        """Kill a node with all its processes, as a machine that goes does, and add another one."""
        node = self.nodes.pop()
        raylets = [process.process.pid for process in node.all_processes["raylet"]]
        for pid in [*raylets, *(other for raylet in raylets for other in below(raylet))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.add())


def below(pid: int) -> list[int]:
    """The processes that a process started, and those that these started (Linux)."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    own = [int(word) for file in files for word in file.read_text().split()]
    return own + [other for one in own for other in below(one)]


def results_of(found: Sweep) -> dict[str, Any]:
    """What was measured, by what was tried."""
    return {
        repr(sorted(row.values.items())): row.error or {key: one.value for key, one in row.metrics.items()}
        for row in found.rows
    }


def once(nodes: Nodes, asked: Spec, begun: Path, *, kill: bool = False) -> tuple[Sweep, dict[str, Any]]:
    """A sweep from the cache `begun`, and what it took."""
    seen: dict[str, int] = {"lost": 0, "killed": 0}

    def watch(found: Sweep, engine: Engine) -> None:
        seen["lost"] = engine.lost
        done = sum(row.done for row in found.rows)
        if kill and done >= TRIALS // 2 and not seen["killed"]:
            seen["killed"] = 1
            nodes.replace_one()

    with tempfile.TemporaryDirectory(prefix="graphopt-sweep-") as cache:
        shutil.copytree(begun, cache, dirs_exist_ok=True)
        os.environ["GRAPHOPT_CACHE"] = cache
        began = time.perf_counter()
        found = sweep(asked, ray=nodes.cluster.address, watch=watch)
        wall = time.perf_counter() - began
        began = time.perf_counter()
        again = sweep(asked, ray="127.0.0.1:1", watch=watch)
        assert results_of(again) == results_of(found)
        second = time.perf_counter() - began
    distinct = {repr(sorted(row.values.items())): row.seconds for row in found.rows}
    said = {"trials": len(found.rows), "distinct": len(distinct), "errors": sum(map(_failed, found.rows))}
    times = {"wall s": wall, "trials s": sum(distinct.values()), "second run s": second}
    return found, said | times | {"lost": seen["lost"], "load": os.getloadavg()[1]}


def _failed(row: Any) -> bool:
    return row.error is not None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option(parser, "sweep")
    parser.add_argument("--only", choices=[name for name, *_ in SWEEPS], help="one of the three sweeps")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="graphopt-begun-") as begun:
        os.environ["GRAPHOPT_CACHE"] = begun
        nodes = Nodes()
        try:
            print("exporting", file=sys.stderr)
            export(nodes)
            same: dict[str, Any] | None = None
            for name, sampler, at_once, kill in SWEEPS:
                if asked.only not in (None, name):
                    continue
                found, said = once(nodes, spec(sampler, at_once), Path(begun), kill=kill)
                row: Row = {"sweep": name, **said}
                beside = said["wall s"] - said["trials s"] / 2
                row["beside s"] = None if kill else beside
                row["orchestration"] = None if kill else beside / said["wall s"]
                if sampler == "grid":
                    row["same results"] = None if same is None else results_of(found) == same
                    same = results_of(found)
                rows.append(row)
                print(row, file=sys.stderr)
        finally:
            nodes.cluster.shutdown()
    table = Table(name="sweep", key="sweep", base=(), rows=rows, **here("ray", "optuna"))
    record(asked.json, [table])


def export(nodes: Nodes) -> None:
    """Leave in the cache what packages of the model begin with."""
    asked = spec("random", 1)
    trial = Trial("tiny-coder", asked.configured("int8", {}))
    (found,) = measured([trial], replace(asked.measured(), metrics=()), ray=nodes.cluster.address)
    assert found.error is None, found.error


if __name__ == "__main__":
    main()
