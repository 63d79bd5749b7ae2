"""Measures one onnxruntime-genai folder in this fresh process and prints JSON: load, prefill, decode, memory.

python benchmarks/_genai_worker.py FOLDER --prompt 256 --new 64 [--threads N]
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
import onnxruntime_genai as og


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0, help="0: what the folder's own configuration says")
    args = parser.parse_args()

    config = og.Config(args.folder)
    if args.threads:
        options = {"intra_op_num_threads": args.threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    started = time.perf_counter()
    model = og.Model(config)
    load = time.perf_counter() - started
    tokens = np.random.default_rng(0).integers(1, 4000, args.prompt).astype(np.int32)

    def generate(new: int) -> tuple[float, list[float]]:
        parameters = og.GeneratorParams(model)
        parameters.set_search_options(
            do_sample=False, max_length=args.prompt + new + 1, min_length=args.prompt + new + 1
        )
        generator = og.Generator(model, parameters)
        begun = time.perf_counter()
        generator.append_tokens(tokens)
        generator.generate_next_token()
        prefill = time.perf_counter() - begun
        steps = []
        for _ in range(new):
            begun = time.perf_counter()
            generator.generate_next_token()
            steps.append(time.perf_counter() - begun)
        return prefill, steps

    generate(2)
    prefill, steps = generate(args.new)
    print(
        json.dumps(
            {
                "load_s": load,
                "prefill_tok_s": args.prompt / prefill,
                "decode_tok_s": len(steps) / sum(steps),
                "p50_ms": float(np.percentile(steps, 50)) * 1e3,
                "p90_ms": float(np.percentile(steps, 90)) * 1e3,
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
