"""One measurement of one package in this process, printed as JSON."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.runtime import default_threads, open_session


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if (args.folder / "genai_config.json").is_file():
        result = _text(args.folder, args.prompt, args.new, args.threads)
    else:
        result = _calls(args.folder, args.inputs, args.new, args.threads)
    result |= {"peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "rss": _rss()}
    print(json.dumps(result))


def _text(folder: Path, prompt: int, new: int, threads: int | None) -> dict[str, Any]:
    import onnxruntime_genai as og

    described = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
    new = min(new, int(described["context_length"]) - prompt - 1)
    if new < 1:
        raise SystemExit(
            f"a prompt of {prompt} tokens leaves no room in a context of {described['context_length']}"
        )
    tokens = np.random.default_rng(0).integers(1, int(described["vocab_size"]), prompt).astype(np.int32)
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

    run(1)
    first, steps = run(new)
    return {"load_seconds": load, "first_seconds": first, "step_seconds": steps, "prompt_tokens": prompt}


def _calls(folder: Path, inputs: Path | None, count: int, threads: int | None) -> dict[str, Any]:
    if inputs is None:
        raise SystemExit(f"{folder} does not generate text: say what to feed it with --inputs FILE.npz")
    started = time.perf_counter()
    session = open_session(folder / "model.onnx", threads=threads)
    load = time.perf_counter() - started
    with np.load(inputs) as loaded:
        feeds = {name: loaded[name] for name in loaded.files}
    first = _timed(lambda: session.run(None, feeds))
    steps = [_timed(lambda: session.run(None, feeds)) for _ in range(count)]
    return {"load_seconds": load, "first_seconds": first, "step_seconds": steps, "prompt_tokens": 0}


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _rss() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
