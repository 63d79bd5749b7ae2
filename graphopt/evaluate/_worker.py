"""One measurement of one package in this process, which is started for it, printed as JSON.

It says "ready" once everything is imported, and measures when a line comes on stdin: several such processes
can be started together and measured one after the other. It is run as a file, for what this module needs
is imported in a third of the time that the whole of `graphopt.evaluate` takes. What is wrong with the input
goes to stderr, with its exit code.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput, GraphoptError
from graphopt.io import read_arrays, read_json
from graphopt.package import MANIFEST, RunnablePackage
from graphopt.runtime import (
    Decoder,
    RuntimeRefused,
    SessionSettings,
    check_installation,
    context_length,
    default_threads,
    open_session,
    states_by_name,
)

READY = "ready"
_GENAI, _GRAPH = "genai_config.json", "model.onnx"
_WARM_UP_STEPS = 1  # after the first call and the first step the runtime has made all its memory
_ENOUGH = 0.1
"""Seconds of each quantity that are measured at least: hundreds of a small model's steps. Processes differ by
more than a process knows of itself, so that further ones are worth more: `benchmarks/turns.py` shows it."""
_MOST = 100
"""Runs of one quantity, for models that take no time: what a process prints stays small."""
_LONG, _FEWEST = 0.5, 3
"""Seconds of calls after which no more are made, and calls that are made anyway, for a median: 64 calls of a
third of a second each, for each of six processes, would be two minutes a block."""
_FIRST = {"ttft", "prefill_tokens_per_second"}
_STEPS = {"tpot", "tpot_p90", "decode_tokens_per_second", "call_time", "call_time_p90", "calls_per_second"}
_BATCH, _LOAD = "batch_tokens_per_second", "load_time"

T = TypeVar("T")
Seconds = list[float]
Run = tuple[float, Seconds]
"""Seconds to the first token, and of each step after it."""


@dataclass(frozen=True)
class Ask:
    """What to measure of the package in `folder`, by keys of `graphopt.metrics.METRICS`.

    `session` is how its sessions are set up, whatever it says itself.
    """

    folder: Path
    metrics: Collection[str]
    prompt: int = 256
    new: int = 64
    batch: int = 8
    inputs: Path | None = None
    threads: int | None = None
    session: SessionSettings | None = None

    def wants(self, metrics: set[str]) -> bool:
        return not metrics.isdisjoint(self.metrics)

    @property
    def wants_a_text(self) -> bool:
        return bool(set(self.metrics) - {_LOAD, _BATCH})


class Loaded(Protocol):
    """A model that is ready to run. `prompt` is how many tokens it reads, 0 for one that writes none."""

    prompt: int

    def first(self) -> float:
        """Seconds to the first token, or of a call."""

    def run(self) -> Run:
        """A text, or a number of calls; of these there is no first."""

    def batched(self) -> tuple[int, float]:
        """Tokens of a batch, and the seconds that they took."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--metrics", type=lambda text: text.split(","), required=True)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--new", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--session", type=SessionSettings.model_validate_json)
    ask = Ask(**vars(parser.parse_args()))
    try:
        prepare(ask)
        print(READY, flush=True)
        sys.stdin.readline()
        print(json.dumps(measure(ask)))
    except GraphoptError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def prepare(ask: Ask) -> None:
    """Import what loading would import: that takes longer than a small model, and is the same for all."""
    if _by_genai(ask):
        check_installation("onnxruntime_genai")
        import onnxruntime_genai  # noqa: F401
    else:
        check_installation()
        import onnxruntime  # noqa: F401

        if _is_package(ask.folder):
            _package(ask).target()


def measure(ask: Ask) -> dict[str, Any]:
    """Fields of a `Measurement`. A package generates text as `graphopt run` does it, and another folder by
    onnxruntime-genai.

    Memory is that of one text, or of calls as they are given; batches come after it was looked at.
    """
    load, model = _loaded(ask)
    found: dict[str, Any] = {"prompt_tokens": model.prompt, "first_seconds": [], "step_seconds": []}
    if ask.wants_a_text:
        found |= _texts(model, ask) if model.prompt else _calls(model, ask)
    found |= _memory()
    if ask.wants({_BATCH}):
        found["batches"] = _enough(model.batched, lambda batch: batch[1])
    loads = [load]
    del model
    while ask.wants({_LOAD}) and sum(loads) < _ENOUGH and len(loads) < _MOST:
        gc.collect()
        loads.append(_loaded(ask)[0])
    return found | {"load_seconds": loads}


def _loaded(ask: Ask) -> tuple[float, Loaded]:
    make = _Served if _by_genai(ask) else _Called if ask.inputs is not None else _Decoded
    started = time.perf_counter()
    model = make(ask)
    return time.perf_counter() - started, model


def _texts(model: Loaded, ask: Ask) -> dict[str, Any]:
    wanted = ask.wants(_STEPS)
    runs = _enough(model.run, lambda run: sum(run[1]) if wanted else _ENOUGH)
    firsts = [first for first, _ in runs]
    while ask.wants(_FIRST) and sum(firsts) < _ENOUGH and len(firsts) < _MOST:
        firsts.append(model.first())
    return {"first_seconds": firsts, "step_seconds": [steps for _, steps in runs]}


def _calls(model: Loaded, ask: Ask) -> dict[str, Any]:
    first = model.first()
    runs = _enough(model.run, lambda run: sum(run[1])) if ask.wants(_STEPS) else []
    return {"first_seconds": [first], "step_seconds": [steps for _, steps in runs]}


def _enough(measured: Callable[[], T], seconds: Callable[[T], float]) -> list[T]:
    """Results of `measured`, once at least, until they took `_ENOUGH` seconds."""
    found = [measured()]
    while sum(map(seconds, found)) < _ENOUGH and len(found) < _MOST:
        found.append(measured())
    return found


class _Served:
    """A folder that another tool made for onnxruntime-genai."""

    def __init__(self, ask: Ask) -> None:
        import onnxruntime_genai as og

        self.prompt, self._og = ask.prompt, og
        self._new = _room(ask)
        self._batch = ask.batch
        self._vocabulary = int(read_json(ask.folder / _GENAI)["model"]["vocab_size"])
        config = og.Config(str(ask.folder))
        options = {"intra_op_num_threads": ask.threads or default_threads()}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = og.Model(config)
        self._warm = False

    def first(self) -> float:
        return self._text(0)[0]

    def run(self) -> Run:
        if not self._warm:
            self._text(_WARM_UP_STEPS)
            self._warm = True
        return self._text(self._new)

    def batched(self) -> tuple[int, float]:
        _, steps = self._text(self._new, self._batch)
        return self._batch * len(steps), sum(steps)

    def _text(self, count: int, batch: int = 1) -> Run:
        each = max(self.prompt // batch, 1)
        tokens = _prompt(self._vocabulary, each, batch).astype(np.int32)
        parameters = self._og.GeneratorParams(self._model)
        length = each + count + 1
        parameters.set_search_options(do_sample=False, max_length=length, min_length=length, batch_size=batch)
        generator = self._og.Generator(self._model, parameters)
        first = _timed(lambda: (generator.append_tokens(tokens), generator.generate_next_token()))
        return first, [_timed(generator.generate_next_token) for _ in range(count)]


class _Decoded:
    """A package, or a folder with a graph, that is decoded on onnxruntime itself."""

    def __init__(self, ask: Ask) -> None:
        self._ask, self.prompt = ask, ask.prompt
        self._package = _package(ask) if _is_package(ask.folder) else None
        self._session = _session(ask, self._package)
        self._states = _states(self._package, self._session)
        if not self._states:
            raise BadInput(
                f"{ask.folder} does not generate text", hint="Say what to feed it with --inputs FILE.npz."
            )
        self._new = _room(ask)
        self._one: Decoder | None = None
        self._many: Decoder | None = None

    def first(self) -> float:
        return self._text(self._alone(), self.prompt, 0)[0]

    def run(self) -> Run:
        return self._text(self._alone(), self.prompt, self._new)

    def batched(self) -> tuple[int, float]:
        batch = self._ask.batch
        each = max(self.prompt // batch, 1)
        if self._many is None:
            self._one = None
            self._many = self._decoder(each + self._new, batch)
            self._text(self._many, each, _WARM_UP_STEPS)
        _, steps = self._text(self._many, each, self._new)
        return batch * len(steps), sum(steps)

    def _alone(self) -> Decoder:
        if self._one is None:
            self._one = self._decoder(self.prompt + self._new, 1)
            self._text(self._one, self.prompt, _WARM_UP_STEPS)
        return self._one

    def _decoder(self, length: int, batch: int) -> Decoder:
        make = Decoder.of if self._package is None else self._package.target().decoder
        return make(self._ask.folder, self._session, length=length, batch=batch, states=self._states)

    @staticmethod
    def _text(decoder: Decoder, prompt: int, new: int) -> Run:
        decoder.reset()
        tokens = _prompt(decoder.vocabulary, prompt, decoder.batch)
        first = _timed(lambda: decoder.append(tokens))
        return first, [_timed(lambda: decoder.append(tokens[:, :1])) for _ in range(new)]


class _Called:
    """A model that is called with the arrays of a file."""

    prompt = 0

    def __init__(self, ask: Ask) -> None:
        assert ask.inputs is not None
        self._ask, self._name = ask, ask.inputs.name
        if _is_package(ask.folder):
            self._model: Callable[[Any], object] = _package(ask).ready(threads=ask.threads)
        else:
            session = _session(ask, None)
            self._model = lambda feeds: session.run(None, feeds)
        self._feeds = read_arrays(ask.inputs)
        self._batch: dict[str, NDArray[Any]] | None = None

    def first(self) -> float:
        return self._tried(self._feeds, self._name)

    def run(self) -> Run:
        """As many calls as were asked for; fewer where they are long."""
        steps: Seconds = []
        while len(steps) < self._ask.new and (len(steps) < _FEWEST or sum(steps) < _LONG):
            steps.append(_timed(lambda: self._model(self._feeds)))
        return 0.0, steps

    def batched(self) -> tuple[int, float]:
        if self._batch is None:
            self._batch = feeds = batch_of(self._feeds, self._ask.batch)
            self._tried(feeds, f"{self._ask.batch} rows of {self._name}")
        return tokens_of(self._batch), _timed(lambda: self._model(self._batch))

    def _tried(self, feeds: Mapping[str, NDArray[Any]], name: str) -> float:
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        try:
            return _timed(lambda: self._model(feeds))
        except (
            state.InvalidArgument,
            state.RuntimeException,
            state.Fail,
            RuntimeRefused,
            ValueError,
        ) as error:
            raise BadInput(f"the model cannot run on {name}: {error}") from error


def batch_of(feeds: Mapping[str, NDArray[Any]], batch: int) -> dict[str, NDArray[Any]]:
    """A call with `batch` rows, those of `feeds` again and again."""
    if "input_ids" not in feeds:
        raise BadInput(f"{_BATCH} is of models that read input_ids", hint="Ask for calls_per_second.")
    rows = len(feeds["input_ids"])
    order = np.arange(batch) % rows
    return {name: a[order] if a.ndim and len(a) == rows else a for name, a in feeds.items()}


def tokens_of(feeds: Mapping[str, NDArray[Any]]) -> int:
    """How many tokens a call reads; padding is none."""
    ids, mask = feeds["input_ids"], feeds.get("attention_mask")
    return ids.size if mask is None or mask.shape != ids.shape else int(np.count_nonzero(mask))


def _by_genai(ask: Ask) -> bool:
    return (ask.folder / _GENAI).is_file() and not _is_package(ask.folder)


def _is_package(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _package(ask: Ask) -> RunnablePackage:
    package = RunnablePackage.load(ask.folder)
    return package if ask.session is None else package.with_settings(ask.session)


def _room(ask: Ask) -> int:
    """How many of the new tokens can follow a prompt, as far as the folder says how long a text can be."""
    context = context_length(ask.folder)
    if context is None:
        return ask.new
    if context < ask.prompt + 2:
        raise BadInput(f"a prompt of {ask.prompt} tokens leaves no room in a context of {context}")
    return min(ask.new, context - ask.prompt - 1)


def _session(ask: Ask, package: RunnablePackage | None) -> Any:
    """That of a package's graph, or of a folder that another tool made."""
    if package is None:
        return open_session(ask.folder / _GRAPH, threads=ask.threads)
    if "model" not in package.manifest.graphs:
        raise BadInput(
            f"package {ask.folder} has several graphs: {', '.join(package.manifest.graphs)}",
            hint="Say what to feed it with --inputs FILE.npz.",
        )
    return package.session(threads=ask.threads)


def _states(package: RunnablePackage | None, session: Any) -> Mapping[str, str]:
    """What the next call takes of this one's outputs, as the package says or as the names do."""
    said = None if package is None else package.manifest.graphs["model"].states
    return states_by_name(spec.name for spec in session.get_inputs()) if said is None else said


def _prompt(vocabulary: int, count: int, rows: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(1, vocabulary, (rows, count))


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _memory() -> dict[str, int]:
    """Resident memory of this process and of those that it started, bytes, now and at its highest.

    Zeros where the system does not tell.

    Not getrusage's: on Linux its maximum begins with that of the process this one was started from.
    """
    found = {"peak_rss": 0, "rss": 0}
    for process in ("self", *_children()):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        for key, field in (("peak_rss", "VmHWM"), ("rss", "VmRSS")):
            found[key] += _kib(fields.get(field, "0"))
    return found


def _children() -> list[str]:
    """Processes of a runtime that has an interpreter of its own, say."""
    try:
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    except OSError:
        return []


def _kib(text: str) -> int:
    return int(text.split()[0]) * 1024


if __name__ == "__main__":
    main()
