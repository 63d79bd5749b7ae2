"""Every causal, masked and seq2seq type of transformers, tiny: `python -m tests.corpus.transformers`.

Each in a process of its own that may compute for 120 seconds. What cannot be exported is tried without
graphopt too, by `tests.corpus.plain`, in the end: only what fails there as well is the exporter's. Results
go to build/corpus/transformers.jsonl; those of the same code and versions are taken from there.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import multiprocessing.connection
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests._cache import ROOT
from tests.corpus._examine import examine
from tests.corpus._limits import HANGS, allow, took_too_long
from tests.corpus._store import Store
from tests.corpus._types import TASKS, ordered

SECONDS = 120


def _work(which: str, model_type: str, pipe: Any) -> None:
    allow(SECONDS)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    pipe.send(examine(which, model_type))


def examined(names: Sequence[str], jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names (MAP/TYPE) with what was found out about them, each in a process of its own, `jobs` at a time."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(reversed(names)), dict[Any, tuple[str, Any]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop()
            here, there = context.Pipe(duplex=False)
            worker = context.Process(target=_work, args=(*name.split("/"), there))
            worker.start()
            there.close()
            running[here] = name, worker
        for pipe in multiprocessing.connection.wait(list(running), HANGS) or list(running):
            name, worker = running.pop(pipe)
            yield name, _answer(pipe, worker)
            worker.kill()
            worker.join()


def _answer(pipe: Any, worker: Any) -> dict[str, Any]:
    slow = {"outcome": "too slow", "reason": f"over {SECONDS} s"}
    if not pipe.poll():
        return slow
    try:
        found: dict[str, Any] = pipe.recv()
    except EOFError:
        worker.join()
        if took_too_long(worker.exitcode):
            return slow
        return {"outcome": "crashed", "reason": f"the process ended with {worker.exitcode}"}
    return found


def without_graphopt(name: str) -> dict[str, Any]:
    """What `tests.corpus.plain` says."""
    command = [sys.executable, "-m", "tests.corpus.plain", *name.split("/")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if took_too_long(done.returncode):
        return {"exported": False, "said": f"over {SECONDS} s"}
    return {"exported": done.returncode == 0, "said": (done.stdout or done.stderr[-400:]).strip()}


def _load_everything() -> None:
    """Import once what every process needs: it starts sooner, and sees the code as it is now."""
    for name in ("graphopt", "graphopt_passes", "graphopt_models", "graphopt_targets"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, name + "."):
            if "__main__" not in module.name and "_templates" not in module.name:
                importlib.import_module(module.name)
    for name in ("transformers.exporters", "torch.onnx._internal.exporter._core"):
        importlib.import_module(name)


def main() -> None:
    """Examine what is not known yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="find out about these again (MAP/TYPE or TYPE)")
    parser.add_argument("--fresh", action="store_true", help="forget every stored result")
    parser.add_argument("--any-code", action="store_true", help="take results of earlier code too")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="so many types at a time")
    parser.add_argument("--again", action="append", default=[], help="forget results of this outcome")
    arguments = parser.parse_args()
    _load_everything()
    store = Store("transformers", fresh=arguments.fresh, any_code=arguments.any_code)
    store.forget([r["name"] for r in store.results() if r["outcome"] in arguments.again])
    names = [f"{w}/{t}" for w, task in TASKS.items() if task.task for t in ordered(w)]
    wanted = [n for n in names if n in arguments.types or n.partition("/")[2] in arguments.types]
    store.forget(wanted)
    for name, found in examined([n for n in wanted or names if n not in store], arguments.jobs):
        store.add(name, found)
        told = found.get("reason") or found.get("stayed") or ""
        print(name, found["outcome"], found.get("seconds", ""), str(told)[:150], flush=True)
    failed = [n for n in wanted or names if store[n]["outcome"] in ("not exported", "too slow")]
    failed = [n for n in failed if "plain" not in store[n]]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for name, plain in zip(failed, pool.map(without_graphopt, failed), strict=True):
            store.add(name, store[name] | {"plain": plain})
            print(name, "without graphopt:", plain["exported"], flush=True)


if __name__ == "__main__":
    main()
