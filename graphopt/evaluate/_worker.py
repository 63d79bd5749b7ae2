"""One measurement of one package in this process, printed as JSON.

What is wrong with the input goes to stderr, with its exit code.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import BadInput, GraphoptError
from graphopt.io import read_arrays, read_json
from graphopt.package import MANIFEST, RunnablePackage
from graphopt.runtime import (
    Decoder,
    check_installation,
    context_length,
    default_threads,
    open_session,
    states_by_name,
)

_GENAI, _GRAPH = "genai_config.json", "model.onnx"
_WARM_UP_STEPS = 1  # after the first call and the first step the runtime has made all its memory


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    try:
        print(json.dumps(measure(args.folder, args.prompt, args.new, args.inputs, args.threads)))
    except GraphoptError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def measure(
    folder: Path, prompt: int, new: int, inputs: Path | None, threads: int | None
) -> dict[str, float | int | list[float]]:
    """Fields of a `Measurement`. A package generates text as `graphopt run` does it, and another folder by
    onnxruntime-genai."""
    if (folder / _GENAI).is_file() and not _is_package(folder):
        found = _generated(folder, prompt, new, threads)
    else:
        found = _run(folder, prompt, new, inputs, threads)
    return found | _memory()


def _generated(folder: Path, prompt: int, new: int, threads: int | None) -> dict[str, Any]:
    check_installation("onnxruntime_genai")
    import onnxruntime_genai as og

    new = _room(folder, prompt, new)
    tokens = _prompt(int(read_json(folder / _GENAI)["model"]["vocab_size"]), prompt).astype(np.int32)
    started = time.perf_counter()
    config = og.Config(str(folder))
    options = {"intra_op_num_threads": threads or default_threads()}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = og.Model(config)
    load = time.perf_counter() - started

    def run(count: int) -> tuple[float, list[float]]:
        parameters = og.GeneratorParams(model)
        length = prompt + count + 1
        parameters.set_search_options(do_sample=False, max_length=length, min_length=length)
        generator = og.Generator(model, parameters)
        first = _timed(lambda: (generator.append_tokens(tokens), generator.generate_next_token()))
        return first, [_timed(generator.generate_next_token) for _ in range(count)]

    run(_WARM_UP_STEPS)
    first, steps = run(new)
    return _times(load, first, steps, prompt)


def _room(folder: Path, prompt: int, new: int) -> int:
    """How many of `new` tokens can follow a prompt, as far as the folder says how long a text can be."""
    context = context_length(folder)
    if context is None:
        return new
    if context < prompt + 2:
        raise BadInput(f"a prompt of {prompt} tokens leaves no room in a context of {context}")
    return min(new, context - prompt - 1)


def _is_package(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _run(folder: Path, prompt: int, new: int, inputs: Path | None, threads: int | None) -> dict[str, Any]:
    started = time.perf_counter()
    if inputs is not None:
        model = _model(folder, threads)
        load = time.perf_counter() - started
        first, steps = _called(model, inputs, new)
        return _times(load, first, steps, 0)
    package = RunnablePackage.load(folder) if _is_package(folder) else None
    session = _session(folder, package, threads)
    load = time.perf_counter() - started
    states = _states(package, session)
    if not states:
        raise BadInput(f"{folder} does not generate text", hint="Say what to feed it with --inputs FILE.npz.")
    new = _room(folder, prompt, new)
    decode = Decoder.of if package is None else package.target().decoder
    decoder = decode(folder, session, length=prompt + new, states=states)
    _decoded(decoder, prompt, _WARM_UP_STEPS)
    first, steps = _decoded(decoder, prompt, new)
    return _times(load, first, steps, prompt)


def _session(folder: Path, package: RunnablePackage | None, threads: int | None) -> Any:
    """That of a package's graph, or of a folder that another tool made."""
    if package is None:
        return open_session(folder / _GRAPH, threads=threads)
    if "model" not in package.manifest.graphs:
        raise BadInput(
            f"package {folder} has several graphs: {', '.join(package.manifest.graphs)}",
            hint="Say what to feed it with --inputs FILE.npz.",
        )
    return package.session(threads=threads)


def _states(package: RunnablePackage | None, session: Any) -> Mapping[str, str]:
    """What the next call takes of this one's outputs, as the package says or as the names do."""
    said = None if package is None else package.manifest.graphs["model"].states
    return states_by_name(spec.name for spec in session.get_inputs()) if said is None else said


def _model(folder: Path, threads: int | None) -> Callable[[Any], object]:
    if _is_package(folder):
        return RunnablePackage.load(folder).ready(threads=threads)
    session = _session(folder, None, threads)
    return lambda feeds: session.run(None, feeds)


def _called(model: Callable[[Any], object], inputs: Path, count: int) -> tuple[float, list[float]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    feeds = read_arrays(inputs)
    try:
        first = _timed(lambda: model(feeds))
    except (state.InvalidArgument, state.RuntimeException, state.Fail, ValueError) as error:
        raise BadInput(f"the model cannot run on {inputs.name}: {error}") from error
    return first, [_timed(lambda: model(feeds)) for _ in range(count)]


def _decoded(decoder: Decoder, prompt: int, new: int) -> tuple[float, list[float]]:
    decoder.reset()
    tokens = _prompt(decoder.vocabulary, prompt)
    first = _timed(lambda: decoder.append(tokens))
    return first, [_timed(lambda: decoder.append(tokens[:1])) for _ in range(new)]


def _prompt(vocabulary: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(0).integers(1, vocabulary, count)


def _times(load: float, first: float, steps: list[float], prompt: int) -> dict[str, Any]:
    return {"load_seconds": load, "first_seconds": first, "step_seconds": steps, "prompt_tokens": prompt}


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _memory() -> dict[str, int]:
    """Resident memory of this process, bytes, now and at its highest; zeros where the system does not tell.

    Not getrusage's: on Linux its maximum begins with that of the process this one was started from.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {"peak_rss": 0, "rss": 0}
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {"peak_rss": _kib(fields["VmHWM"]), "rss": _kib(fields["VmRSS"])}


def _kib(text: str) -> int:
    return int(text.split()[0]) * 1024


if __name__ == "__main__":
    main()
