"""Tasks on a cluster of two nodes: done once, again where they fail or a node goes, and kept."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphopt import BadInput, EnvironmentProblem
from graphopt.plugins import registry
from graphopt.sweep import Engine, Task, run
from graphopt.sweep import _ray as connection
from tests._cache import ROOT

CALLS = "tests.sweep._calls:"
NOBODY = "127.0.0.1:1"
"""An address at which nothing answers: who comes this far fails."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where calls leave a file each time that they are done."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def squares(marks: Path, count: int, seconds: float = 0.0, **options: Any) -> list[Task]:
    return [
        Task(f"{CALLS}squared", {"number": n, "marks": str(marks), "seconds": seconds}, **options)
        for n in range(count)
    ]


def test_what_others_come_to_while_some_are_waited_for_is_given_later(cluster: str, marks: Path) -> None:
    first, second, *rest = squares(marks, 5)
    with Engine(cluster) as engine:
        engine.submit(first)
        engine.submit(second)
        assert [one.value for one in engine.all(rest)] == [4, 9, 16]
        assert engine.done == 3
        assert sorted(one.value for one in iter(engine.next, None)) == [0, 1]
        assert engine.done == 5


def test_every_task_is_done_once_and_never_again(
    cluster: str, marks: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", NOBODY)
    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    term = signal.getsignal(signal.SIGTERM)
    tasks = squares(marks, 3)

    seen: list[tuple[int, int, float]] = []
    first = run(
        [*tasks, tasks[1]],
        cluster,
        watch=lambda engine: seen.append((engine.running, engine.waiting, engine.cores)),
    )
    assert all(running <= cores for running, _, cores in seen)  # each takes one
    assert max(running + waiting for running, waiting, _ in seen) >= 2
    assert [one.value for one in first] == [0, 1, 4, 1]
    assert not any(one.known for one in first)
    assert len(os.listdir(marks)) == 3

    again = run(tasks, NOBODY)
    assert [one.value for one in again] == [0, 1, 4]
    assert all(one.known for one in again)
    assert len(os.listdir(marks)) == 3

    assert capfd.readouterr().out == ""
    assert signal.getsignal(signal.SIGTERM) == term
    assert os.environ["RAY_ADDRESS"] == NOBODY
    assert os.environ["RAY_DEDUP_LOGS"] == "0"


def test_a_task_that_fails_by_itself_twice_is_a_finding(
    cluster: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = {name: tmp_path / name for name in ("fails", "refuses", "dies", "dies-once")}
    for folder in folders.values():
        folder.mkdir()
    said = {name: {"marks": str(folder)} for name, folder in folders.items()}
    tasks = [
        Task(f"{CALLS}fails", said["fails"]),
        Task(f"{CALLS}refuses", said["refuses"]),
        Task(f"{CALLS}dies", {**said["dies"], "times": 9}),
        Task(f"{CALLS}dies", {**said["dies-once"], "times": 1}),
        Task(f"{CALLS}threads", {}, cores=1),
    ]
    fails, refuses, dies, once, threads = run(tasks, cluster)

    assert (fails.error, fails.code, fails.failures) == ("ValueError: no such luck (_calls.py:32)", 5, 2)
    assert (refuses.error, refuses.code) == ("nothing fits", BadInput.exit_code)
    assert (dies.value, dies.failures) == (None, 2)
    assert "ended without a word" in (dies.error or "")
    # While Ray finds out that a node of an earlier test is gone, a crash counts as lost with it.
    assert (once.value, once.failures + once.lost) == (7, 1)
    assert threads.value == {"threads": 1, "omp": "1"}
    assert {name: len(os.listdir(folder)) for name, folder in folders.items()} == {
        "fails": 2,
        "refuses": 1,
        "dies": 2 + dies.lost,
        "dies-once": 2,
    }
    assert capfd.readouterr().out == ""  # where Ray says of what a process died


def test_why_a_call_could_not_begin_is_said(cluster: str, marks: Path) -> None:
    with Engine(cluster) as engine:
        engine.submit(Task(f"{CALLS}breaks", {"why": str(marks)}))
        assert (broken := engine.next()) is not None
        assert broken.error is None
        (found,) = engine.all(squares(marks, 1))  # in the same process

    assert (found.error, found.failures) == (f"OSError: {marks}", 2)
    assert not found.final


def test_nothing_is_lost_with_a_node(
    cluster: str, another_node: Callable[[], None], marks: Path, tmp_path: Path
) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    begun.mkdir()
    held = [
        Task(f"{CALLS}held", {"number": n, "marks": str(begun), "gate": str(gate)}, cores=1) for n in range(2)
    ]
    timed = squares(marks, 7, 0.1, alone=True)[4:]
    tasks = [*held, *squares(marks, 4, 0.1), *timed]

    def kill(engine: Engine) -> None:
        workers = [int(name.rpartition("-")[2]) for name in os.listdir(begun)]
        if not gate.exists() and len(workers) == 2:  # one on each node
            another_node()
            while all(Path(f"/proc/{pid}/exe").exists() for pid in workers):  # it lives on for seconds
                time.sleep(0.05)
            gate.touch()

    found = run(tasks, cluster, watch=kill)

    assert [one.value for one in found] == [0, 1, 0, 1, 4, 9, 16, 25, 36]
    assert sorted(one.lost for one in found[:2]) == [0, 1]
    assert not any(one.failures for one in found)
    assert len(os.listdir(begun)) == 3
    assert [one.value for one in run(tasks, NOBODY)] == [one.value for one in found]

    spans = {path.name: tuple(map(float, path.read_text().split())) for path in marks.iterdir()}
    for name, (began, ended) in spans.items():
        if int(name.partition("-")[0]) >= 4:  # it was timed
            others = [span for other, span in spans.items() if other != name]
            assert all(e <= began or ended <= b for b, e in others)


def test_an_interrupted_run_keeps_what_is_done(cluster: str, marks: Path) -> None:
    tasks = squares(marks, 4, 0.3)

    def interrupt(engine: Engine) -> None:
        if engine.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tasks, cluster, watch=interrupt)
    found = run(tasks, cluster)

    assert [one.value for one in found] == [0, 1, 4, 9]
    assert sum(one.known for one in found) >= 2


def test_what_runs_here_is_as_urgent_as_what_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (found,) = run([Task(f"{CALLS}niceness", {})])
    assert found.value == os.nice(0)  # Ray's workers give way to all others


def test_a_plugin_that_the_caller_leaves_out_is_left_out_on_nodes(cluster: str) -> None:
    def asked(text: str) -> bool:
        (found,) = run([Task(f"{CALLS}takes_any_plugin", {"asked": text})], cluster)
        assert found.error is None
        return bool(found.value)

    assert asked("with all")
    with registry.built_in_only():
        assert not asked("with graphopt's own")
    assert asked("with all again")


def test_what_no_node_could_do_is_said(cluster: str, marks: Path) -> None:
    for options in ({"cores": 64}, {"memory": 10**15}):
        with pytest.raises(EnvironmentProblem, match="no node has"):
            run(squares(marks, 1, **options), cluster)


def test_an_address_that_does_not_answer_is_said_soon(marks: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for address in (NOBODY, f"127.0.0.1:{silent.getsockname()[1]}"):
            began = time.monotonic()
            with pytest.raises(EnvironmentProblem, match="no Ray cluster answers at"):
                run(squares(marks, 1), address)
            assert time.monotonic() - began < 60
    for address in ("nowhere", "host:port", "ray://127.0.0.1:1", ":1"):
        with pytest.raises(BadInput, match="is no address"):
            run(squares(marks, 1), address)


def test_without_the_extra_the_command_that_installs_it_is_said(
    marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="ray and optuna") as refused:
        run(squares(marks, 1))
    assert refused.value.hint == "pip install 'graphopt[tune]'"


def test_without_a_cache_there_is_nowhere_to_keep_results(
    marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE_SIZE", "0")
    with pytest.raises(EnvironmentProblem, match="the cache is switched off"):
        run(squares(marks, 1), NOBODY)
