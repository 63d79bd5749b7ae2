"""Tasks on Ray: each done once, again where it failed or a node went, and kept."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graphopt.cache import Keep, call_key, export_key
from graphopt.errors import EnvironmentProblem
from graphopt.export import resolve_source
from graphopt.io import cache_folder
from graphopt.plugins import registry
from graphopt.sweep._ray import connected
from graphopt.sweep._task import ANSWERS, Outcome, Task
from graphopt.sweep._work import PASSED_ON, own_code, work

__all__ = ["Engine", "Watch", "run"]

Watch = Callable[["Engine"], None]
FAILURES = 2
"""Calls that fail by themselves until that is the outcome: once may be chance."""
LOST = 5
"""Nodes that may go under one task until that is the outcome: a judgement, as it may be what ends them."""
_TICK = 0.5
"""Seconds between looks at what changed, where nothing ends."""
_ENDED = "its process ended without a word: killed, out of memory, or crashed"
_NO_MEMORY = "its node had no memory left"


@dataclass
class _Running:
    task: Task
    key: str | None
    nodes: frozenset[str] = frozenset()
    failures: int = 0
    lost: int = 0


@dataclass
class Engine:
    """Does tasks as they are submitted and gives outcomes as they come; Ray is started for the first that no
    earlier run did.

    A context manager: in the end, Ctrl-C included, what still runs is ended, and what is done stays. `ray` as
    for `run`. `watch` is told whenever something changed, and twice a second.
    """

    ray: str = "local"
    watch: Watch = lambda _: None
    done: int = 0
    known: int = 0
    failed: int = 0
    lost: int = 0
    _queue: deque[_Running] = field(default_factory=deque)
    _alone: deque[_Running] = field(default_factory=deque)
    _running: dict[Any, _Running] = field(default_factory=dict)
    _ready: deque[Outcome] = field(default_factory=deque)
    _exports: dict[str, str | None] = field(default_factory=dict)
    _module: Any = None

    def __enter__(self) -> Engine:
        self._keep = Keep()
        for found in (registry.passes, registry.targets, registry.families):
            found()  # whose code is asked for by name
        self._rest = contextlib.ExitStack()
        return self

    def __exit__(self, *_: object) -> None:
        if self._module is not None:
            for reference in self._running:
                with contextlib.suppress(Exception):
                    self._module.cancel(reference, force=True)
        self._rest.close()

    @property
    def running(self) -> int:
        """Tasks that were sent and that nodes have cores for; Ray does not tell which these are."""
        left: float = self.cores if self._running else 0
        found = 0
        for one in self._running.values():
            left -= one.task.cores
            if left < 0:
                break
            found += 1
        return found

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._alone) + len(self._running) - self.running

    @property
    def nodes(self) -> int:
        """Nodes that are there; 0 before Ray was needed."""
        return len(self._alive()) if self._module is not None else 0

    @property
    def cores(self) -> int:
        """Of all nodes; Ray is started for that."""
        self._connect()
        return int(sum(node["Resources"].get("CPU", 0) for node in self._alive()))

    def knows(self, task: Task) -> bool:
        """Whether an earlier run did `task`."""
        key = self._key(task)
        return key is not None and self._keep.has(key)

    def submit(self, task: Task) -> None:
        """Have `task` done: it is sent at once, unless it is known or wants a machine to itself.

        `BadInput` for a source that is none, `EnvironmentProblem` where there is no cluster for it.
        """
        key = self._key(task)
        value = None if key is None else self._keep.value(key)
        if value is not None:
            self.known += 1
            self._ready.append(replace(_outcome(task, value), known=True))
        elif task.alone:
            self._alone.append(_Running(task, key))
        else:
            self._queue.append(_Running(task, key))
            self._send_others()  # workers start while others are submitted

    def exported(self, source: str) -> bool:
        """Whether the cache here has `source` as it is exported, which all packages of it begin with."""
        key = self._export(source)
        return key is not None and self._keep.has(key)

    def next(self) -> Outcome | None:
        """The outcome of a task that was submitted, the first that is there; None where all were given.

        `EnvironmentProblem` where no node could do one, and where the cluster is gone.
        """
        outcome = self._first()
        if outcome is not None:
            self._count(outcome)
        return outcome

    def all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """The outcomes of `tasks`, in their order. `next` gives those of others that come meanwhile."""
        for task in tasks:
            self.submit(task)
        found: dict[int, Outcome] = {}
        others: list[Outcome] = []
        wanted = {id(task) for task in tasks}
        while len(found) < len(wanted) and (outcome := self._first()) is not None:
            if id(outcome.task) in wanted:
                found[id(outcome.task)] = outcome
                self._count(outcome)
            else:
                others.append(outcome)
        self._ready.extend(others)
        return [found[id(task)] for task in tasks]

    def _first(self) -> Outcome | None:
        while not self._ready and (self._queue or self._alone or self._running):
            self._start()
            ended, _ = self._module.wait(list(self._running), num_returns=1, timeout=_TICK)
            for reference in ended:
                self._settle(reference)
            if not ended:
                self._require_room()
            self.watch(self)
        return self._ready.popleft() if self._ready else None

    def _count(self, outcome: Outcome) -> None:
        self.done += 1
        self.failed += outcome.error is not None
        self.watch(self)

    def _start(self) -> None:
        """Send on what may run now. What wants a machine to itself waits until nothing else is left, and then
        there is one for each host."""
        self._send_others()
        if self._alone and all(running.task.alone for running in self._running.values()):
            nodes = self._alive()
            hosts = len({node["NodeManagerAddress"] for node in nodes})
            while self._alone and len(self._running) < hosts:
                self._send(self._alone.popleft(), nodes)

    def _send_others(self) -> None:
        self._connect()
        nodes = self._alive() if self._queue else []
        while self._queue:
            self._send(self._queue.popleft(), nodes)

    def _connect(self) -> None:
        if self._module is None:
            self._module = self._rest.enter_context(connected(self.ray))
            self._remote = self._module.remote(work)
            self._code = own_code()
            self._require_room()

    def _send(self, running: _Running, nodes: list[dict[str, Any]]) -> None:
        task = running.task
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        call = {
            "function": task.function,
            "arguments": dict(task.arguments),
            "alone": task.alone,
            "threads": max(1, int(task.cores)),
            "variables": variables | {"GRAPHOPT_CACHE": str(cache_folder())},
            "plugins": None if registry.allows_any() else sorted(registry.allowed().names or ()),
            "code": self._code,
        }
        options = {"num_cpus": task.cores, "max_retries": 0, "name": task.about or task.function}
        if task.memory:
            options["memory"] = task.memory
        running.nodes = frozenset(node["NodeID"] for node in nodes)
        self._running[self._remote.options(**options).remote(call)] = running

    def _settle(self, reference: Any) -> None:
        """Take what came of a call, or have it done again."""
        from ray.exceptions import NodeDiedError, ObjectLostError, RayError

        running = self._running.pop(reference)
        task = running.task
        try:
            said = self._module.get(reference)
        except RayError as error:
            here = {node["NodeID"] for node in self._alive()}
            if isinstance(error, NodeDiedError | ObjectLostError) or running.nodes - here:
                running.lost += 1
                self.lost += 1
            else:
                running.failures += 1
            said = {"error": _why(error), "code": EnvironmentProblem.exit_code}
            said |= {"host": "", "seconds": 0.0, "waited": 0.0}
        else:
            running.failures += "error" in said and said["code"] not in ANSWERS
        finished = "value" in said or said["code"] in ANSWERS
        if not finished and running.failures < FAILURES and running.lost < LOST:
            (self._alone if task.alone else self._queue).append(running)
            return
        if "value" in said and running.key is not None:
            about = (", ".join(task.sources), task.about or task.function)
            self._keep.keep_value(running.key, about, said)
        self._ready.append(replace(_outcome(task, said), failures=running.failures, lost=running.lost))

    def _alive(self) -> list[dict[str, Any]]:
        return [node for node in self._module.nodes() if node["Alive"]]

    def _require_room(self) -> None:
        """Raise `EnvironmentProblem` for a task that no node could take: Ray would wait for one for ever."""
        tasks = [running.task for running in (*self._queue, *self._alone, *self._running.values())]
        nodes = self._alive()
        for task in tasks:
            if not any(
                node["Resources"].get("CPU", 0) >= task.cores
                and node["Resources"].get("memory", 0) >= task.memory
                for node in nodes
            ):
                memory = f" and {task.memory / 1e9:.3g} GB" if task.memory else ""
                raise EnvironmentProblem(
                    f"no node has {task.cores:g} cores{memory}, which {task.about or task.function} may take",
                    hint="Ask for less, or start a larger node: `ray start --address ...`.",
                )

    def _key(self, task: Task) -> str | None:
        module = task.function.partition(":")[0]
        importlib.import_module(module)
        parts = [self._export(source) for source in task.sources]
        if task.alone:
            fingerprint = registry.default_target()().fingerprint()
            parts.append(" ".join(f"{name}={value}" for name, value in sorted(fingerprint.items())))
        known = [part for part in parts if part is not None]
        return call_key(task.function, task.arguments, known) if len(known) == len(parts) else None

    def _export(self, source: str) -> str | None:
        if source not in self._exports:
            self._exports[source] = export_key(resolve_source(source), "auto")
        return self._exports[source]


def _why(error: Any) -> str:
    """What Ray says of a call that gave nothing, in a line."""
    from ray.exceptions import OutOfMemoryError, RayTaskError

    if isinstance(error, OutOfMemoryError):
        return _NO_MEMORY
    if not isinstance(error, RayTaskError):
        return _ENDED
    lines = str(error.cause).strip().splitlines() or [""]  # of a node without graphopt the last says why
    return f"{type(error.cause).__name__}: {' '.join(dict.fromkeys((lines[0], lines[-1])))}"


def _outcome(task: Task, said: dict[str, Any]) -> Outcome:
    return Outcome(
        task,
        said.get("value"),
        said.get("error"),
        said.get("code", 0),
        seconds=said["seconds"],
        waited=said["waited"],
        host=said["host"],
    )


def run(tasks: Iterable[Task], ray: str = "local", *, watch: Watch = lambda _: None) -> list[Outcome]:
    """Do `tasks` and return what came of each, in their order.

    `ray` is "local" (a Ray of our own on this machine), the address of a cluster ("HOST:PORT"), or "auto":
    the cluster that RAY_ADDRESS names or that was started on this machine, else local. Tasks that an earlier
    run did are not done again, nor is one that is here twice. One that fails by itself twice is an `Outcome`
    with its error; one whose node goes is done again.

    Raises `EnvironmentProblem` where Ray is not installed, an address does not answer, no node is large
    enough, or the cache, where results are kept, is switched off.
    """
    wanted = list(tasks)
    found: dict[str, Outcome] = {}
    with Engine(ray, watch) as engine:
        for name, task in {_name(task): task for task in wanted}.items():
            found[name] = Outcome(task)
            engine.submit(task)
        while (outcome := engine.next()) is not None:
            found[_name(outcome.task)] = outcome
    return [replace(found[_name(task)], task=task) for task in wanted]


def _name(task: Task) -> str:
    return repr(task)
