"""Processes that are started together, wait, and measure in turn: none works while another does.

A round starts all of them anew, because where memory comes to lie is settled once in a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from _rounds import Peer, busy

Process = subprocess.Popen[str]
SETTLING = 0.1
"""Seconds between two turns: onnxruntime's threads spin on for some 50 ms after a call, and would take a core
from whoever comes next."""


def turns(peers: Sequence[Peer], asked: Sequence[str], repeats: int) -> dict[str, dict[str, dict[str, Any]]]:
    """What every peer's process finds when each line of `asked` is put to it `repeats` times, by line and
    peer; the order is turned around from time to time.

    A process prints a JSON object when it is ready and one an answer, whose times `ms` are pooled. `{"error":
    its last words}` where it failed.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {line: {} for line in asked}
    with ExitStack() as stack:
        running = {peer.name: stack.enter_context(_started(peer)) for peer in peers}
        ready = {name: _answer(process) for name, process in running.items()}
        for line in asked:
            answers: dict[str, list[dict[str, Any]]] = {peer.name: [ready[peer.name]] for peer in peers}
            for repeat in range(repeats):
                for name in list(running)[:: -1 if repeat % 2 else 1]:
                    if "error" not in answers[name][-1]:
                        answers[name].append(_asked(running[name], line))
            found[line] = {name: _pooled(those) for name, those in answers.items()}
    for name, result in found[asked[0]].items():
        short = result.get("error", f"{result.get('ms', 0):.2f} ms")
        print(f"{name}: {short}", file=sys.stderr, flush=True)
    return found


def _started(peer: Peer) -> Process:
    pipe = subprocess.PIPE
    return subprocess.Popen(peer.command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _answer(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    while line := process.stdout.readline():
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    words = process.stderr.read().strip().splitlines()
    return {"error": words[-1] if words else f"exit status {process.wait()}"}


def _asked(process: Process, line: str) -> dict[str, Any]:
    """The answer, and the share of all processors that others used meanwhile ("others")."""
    assert process.stdin is not None
    time.sleep(SETTLING)
    started, before = time.perf_counter(), busy()
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answer = _answer(process)
    if "error" not in answer:
        used = busy() - before - answer["cpu"]
        answer["others"] = min(1.0, max(0.0, used / (time.perf_counter() - started) / (os.cpu_count() or 1)))
    return answer


def _pooled(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if failed := next((one for one in answers if "error" in one), None):
        return dict(failed)
    ms = float(np.median([one for answer in answers[1:] for one in answer["ms"]]))
    others = float(np.mean([answer["others"] for answer in answers[1:]]))
    return {"ms": ms, "calls": 1e3 / ms, "others": others, "versions": answers[0]["versions"]}
