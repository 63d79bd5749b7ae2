"""What a block size costs and buys: speed of MatMulNBits by block, and damage to the embedded model.

    python benchmarks/blocks.py                     # both tables
    python benchmarks/blocks.py --only speed --threads 1
    python benchmarks/blocks.py --only floor        # what bfloat16 does to the same model in PyTorch

Speed: one node in a session of its own, every configuration in turn (so that weights come from memory, not
from the cache), the fastest of many runs (so that other load on the machine counts little). Damage: each
recipe on tiny-coder with only an option or two changed, beside the lossless one on the held-out text. What
was found is merged into benchmarks/results/blocks.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
from _damage import SOURCE, torch_logits
from _provenance import here
from _results import Row, Table, option, record

import graphopt
from graphopt.evaluate import compare_language_models
from graphopt.evaluate._corpus import built_in_corpus, sequences
from graphopt.ir import to_proto
from graphopt.runtime import Tokenizer, default_threads, session_options

BLOCKS = (32, 64, 128, 256)
BITS = (4, 8)


def product(bits: int | None, block: int, k: int, n: int) -> ir.Model:
    """float32[rows, k] times a constant [k, n]: MatMulNBits, or MatMul where `bits` is None."""
    rng = np.random.default_rng(0)
    x = ir.Value(name="x", shape=ir.Shape(["rows", k]), type=ir.TensorType(ir.DataType.FLOAT))
    tape = ir.tape.Tape()
    if bits is None:
        weight = tape.initializer(ir.tensor(rng.standard_normal((k, n), np.float32)), "w")
        y = tape.op("MatMul", [x, weight])
    else:
        size = (n, k // block, block * bits // 8)
        packed = tape.initializer(ir.tensor(rng.integers(0, 256, size, np.uint8)), "w")
        scales = tape.initializer(ir.tensor(rng.standard_normal(size[:2], np.float32)), "scales")
        y = tape.op(
            "MatMulNBits",
            [x, packed, scales],
            {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": 4},
            domain="com.microsoft",
        )
    y.name, y.shape, y.type = "y", ir.Shape(["rows", n]), ir.TensorType(ir.DataType.FLOAT)
    imports = {"": 23, "com.microsoft": 1}
    graph = ir.Graph(
        [x], [y], nodes=tape.nodes, initializers=tape.initializers, opset_imports=imports, name="g"
    )
    return ir.Model(graph, ir_version=10)


def kernels(
    threads: int, seconds: float, k: int, n: int
) -> Iterator[tuple[int | None, int, dict[int, float]]]:
    """bits, block and the fastest time in seconds by number of rows."""
    import onnxruntime as ort

    kinds: list[tuple[int | None, int]] = [(None, 0), *((bits, block) for bits in BITS for block in BLOCKS)]
    sessions = []
    for bits, block in kinds:
        model = to_proto(product(bits, block, k, n)).SerializeToString()
        sessions.append(ort.InferenceSession(model, session_options(threads=threads)))
    rows = {m: np.random.default_rng(1).standard_normal((m, k), np.float32) for m in (1, 128)}
    fastest = {(kind, m): float("inf") for kind in kinds for m in rows}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for kind, session in zip(kinds, sessions, strict=True):
            for m, x in rows.items():
                started = time.perf_counter()
                session.run(None, {"x": x})
                fastest[kind, m] = min(fastest[kind, m], time.perf_counter() - started)
    for bits, block in kinds:
        yield bits, block, {m: fastest[(bits, block), m] for m in rows}


def speed(args: argparse.Namespace) -> None:
    print(f"\nMatMulNBits at accuracy level 4, K = {args.k}, N = {args.n}, {args.threads} thread(s)\n")
    print("| weights | block | bits a weight | 1 row: Gweights/s | GB/s | 128 rows: GFLOP/s |")
    print("|---|---|---|---|---|---|")
    count, rows = args.k * args.n, list[Row]()
    for bits, block, times in kernels(args.threads, args.seconds, args.k, args.n):
        stored = 32.0 if bits is None else bits + 32 / block
        rate = count / times[1] / 1e9
        flops = 2 * 128 * count / times[128] / 1e9
        name = "fp32" if bits is None else f"{bits}-bit"
        row: Row = {"weights": f"{name}, {block}" if bits else name, "bits_a_weight": stored}
        rows.append(row | {"gweights_s": rate, "gbs": rate * stored / 8, "gflops_128_rows": flops})
        print(
            f"| {name} | {block or '-'} | {stored:g} | {rate:.1f} | {rate * stored / 8:.1f} | {flops:.0f} |"
        )

    cell = {"k": args.k, "n": args.n, "threads": args.threads}
    record(args.json, [Table(name="speed", cell=cell, key="weights", rows=rows, **here())])


def variants() -> Iterator[tuple[str, str, list[str]]]:
    """A label, a recipe and its settings."""
    for bits in BITS:
        for block in BLOCKS:
            yield f"{bits}-bit, {block}", f"int{bits}", [f"quantize-weights.block_size={block}"]
    base = "quantize-weights.block_size=128"
    yield "4-bit, 128, no search", "int4", [base, "quantize-weights.search=false"]
    yield "4-bit, 128, products in fp32", "int4", [base, "quantize-weights.accuracy_level=0"]
    yield (
        "4-bit, 128, embedding and head in fp32",
        "int4",
        [base, "quantize-weights.exclude=*embed*,*lm_head*"],
    )
    yield "8-bit, 128, products in fp32", "int8", [base, "quantize-weights.accuracy_level=0"]


def damage(args: argparse.Namespace) -> None:
    print(f"\ntiny-coder beside its lossless package, {args.tokens} tokens of held-out text\n")
    print("| weights, block | size MB | mean KL, nats a token | 99th percentile | top-1 agreement |")
    print("|---|---|---|---|---|")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        reference = graphopt.optimize("tiny-coder", Path(folder) / "reference", recipe="lossless")
        for number, (label, recipe, settings) in enumerate(variants()):
            package = graphopt.optimize(
                "tiny-coder", Path(folder) / str(number), recipe=recipe, settings=settings, validate=False
            )
            size = sum(f.stat().st_size for f in package.path.glob("model.onnx*")) / 1e6
            found = package.validate(reference.path, tokens=args.tokens).result
            kl, far, top1 = found.kl_mean, found.kl_p99, found.top1_agreement
            row: Row = {"weights": label, "size_mb": size, "kl_mean": kl, "kl_p99": far.value}
            rows.append(row | {"top1_percent": 100 * top1.value})
            print(
                f"| {label} | {size:.2f} | {kl.value:.5f} [{kl.low:.5f}, {kl.high:.5f}] | {far.value:.4f} "
                f"| {top1.value:.2%} |",
                flush=True,
            )

    whose = "95 % bootstrap interval, over pieces of the held-out text, of the mean KL divergence"
    cell = {"model": "tiny-coder", "tokens": args.tokens}
    record(args.json, [Table(name="damage", cell=cell, key="weights", interval=whose, rows=rows, **here())])


def floor(args: argparse.Namespace) -> None:
    """Damage of computing in bfloat16: what a model trained in it cannot be told from."""
    texts = [
        window.tokens
        for window in sequences(built_in_corpus(), Tokenizer(SOURCE), tokens=args.tokens, context=None)
    ]
    logits = (torch_logits(SOURCE, dtype) for dtype in ("bfloat16", "float32"))
    found = compare_language_models(*logits, texts)
    kl, far, top1 = found.kl_mean, found.kl_p99, found.top1_agreement
    print(f"\ntiny-coder in PyTorch, bfloat16 beside float32, {args.tokens} tokens of held-out text\n")
    print("| mean KL, nats a token | 99th percentile | top-1 agreement |\n|---|---|---|")
    print(f"| {kl.value:.5f} [{kl.low:.5f}, {kl.high:.5f}] | {far.value:.5f} | {top1.value:.2%} |")
    rows: list[Row] = [
        {"weights": "bfloat16", "kl_mean": kl, "kl_p99": far.value, "top1_percent": 100 * top1.value}
    ]
    whose = "95 % bootstrap interval, over pieces of the held-out text, of the mean KL divergence"
    cell = {"model": "tiny-coder", "tokens": args.tokens}
    about = here("torch")
    record(args.json, [Table(name="floor", cell=cell, key="weights", interval=whose, rows=rows, **about)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["speed", "damage", "floor"])
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--k", type=int, default=2048)
    parser.add_argument("--n", type=int, default=8192)
    parser.add_argument("--tokens", type=int, default=16384)
    option(parser, "blocks")
    args = parser.parse_args()
    for part in (speed, damage, floor):
        if args.only in (None, part.__name__):
            part(args)


if __name__ == "__main__":
    main()
