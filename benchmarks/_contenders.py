"""Who is compared in quality.py, how each makes a model smaller, and what is then stored."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import onnx_ir as ir
import peers
from _lms import WEIGHTS, digest, tensors_of
from _recipes import HERE, OURS, ROOT, Command, Recipe, builder

KINDS = ("F32", "BF16", "Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
ROUNDED_BY_IMPORTANCE = KINDS[2:7]
_LIBRARIES = ("onnxruntime", "onnxruntime-genai", "torch", "transformers")
_BY_IMPORTANCE = ", importance matrix"
_SOURCES = {".py", ".toml", ".c", ".h"}
_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "I32": 4}
# Where the tables of a rotation are among an operator's inputs: they are computed, not trained.
_POSITIONS = {"GroupQueryAttention": (7, 8), "RotaryEmbedding": (1, 2, 3)}


def optimized(recipe: str, *options: str) -> Command:
    """`graphopt optimize` with the calibration text that comes with the embedded model."""

    def command(source: Path, folder: Path) -> list[str]:
        base = [sys.executable, "-m", "graphopt", "optimize", str(source), "-o", str(folder)]
        return [*base, "--recipe", recipe, *options, *UNCHECKED]

    return command


# What is measured here is what a closing check would measure on less text.
UNCHECKED = ("--verify", "off", "--no-validate", "--no-cache", "--force", "--quiet")


def ours(name: str, slug: str, recipe: str, *options: str) -> Recipe:
    command = optimized(recipe, *options)
    return Recipe(f"graphopt {name}", slug, "_graphopt_worker.py", command, uses=OURS)


def gguf(kind: str, *, importance: bool = False) -> Recipe:
    def command(source: Path, folder: Path) -> list[str]:
        words = [str(source), str(folder), kind]
        if importance:
            return [sys.executable, str(HERE / "_importance.py"), *words]
        return [str(peers.python("llama")), str(HERE / "_gguf.py"), *words]

    uses = [HERE / name for name in ("_gguf.py", "_llama_worker.py")]
    uses += [HERE / name for name in ("_importance.py", "_calibration.py") if importance]
    name, slug = f"llama.cpp {kind}", f"gguf-{kind}"
    if importance:
        name, slug = name + _BY_IMPORTANCE, slug + "-importance"
    return Recipe(
        name, slug, "_llama_worker.py", command, f"{kind}.gguf", peers.python("llama"), uses=tuple(uses)
    )


def calibrated(peer: str, script: str, name: str, *options: str) -> Recipe:
    """A peer that rounds in PyTorch; what it gives is measured in fp32."""

    def command(source: Path, folder: Path) -> list[str]:
        return [str(peers.python(peer)), str(HERE / script), str(source), str(folder), *options]

    slug = "".join([peer, *options]).replace("--", "-")
    uses = (HERE / script, HERE / "_calibration.py")
    return Recipe(name, slug, script, command, "fp32", peers.python(peer), uses=uses)


FLOOR = Recipe("torch bf16", "bf16", "_torch_worker.py")
PEERS = (
    FLOOR,
    *map(gguf, KINDS),
    *(gguf(kind, importance=True) for kind in ROUNDED_BY_IMPORTANCE),
    *(
        Recipe(f"genai builder, block {n}", f"builder-{n}", "_genai_worker.py", builder(f"block_size={n}"))
        for n in (32, 128)
    ),
    calibrated("auto-round", "_auto_round.py", "AutoRound, group 128", "--group", "128"),
    calibrated(
        "auto-round", "_auto_round.py", "AutoRound, group 128, zero points", "--group", "128", "--asymmetric"
    ),
    calibrated("gptqmodel", "_gptqmodel.py", "GPTQModel, group 128", "--group", "128"),
)
# Nothing but the layers' products, as those who round in PyTorch have it.
_LEARNED = (
    *("--set", "quantize-weights.rounding=learned"),
    *("--set", "quantize-weights.own_text=65536"),
)
_LINEARS = (
    *_LEARNED,
    *("--set", "quantize-weights.block_size=128", "--set", "quantize-weights.embedding=keep"),
    *("--set", "quantize-weights.exclude=*lm_head*,*embed_tokens*"),
)
FIXED = (
    ours("int4-fast", "int4-fast", "int4-fast"),
    ours("int4", "int4", "int4"),
    ours("int4, learned", "int4-learned", "int4", *_LEARNED),
    ours("int8", "int8", "int8"),
    ours("int8, int8 cache", "int8-kv8", str(HERE / "int8-kv8.toml")),
    ours("at Q4_K_M's quality", "equal-quality", str(HERE / "equal-quality.toml")),
    ours("3.25 bits", "plan-3.25", "int4", "--budget", "bpw=3.25", *_LEARNED),
    ours("layers' products alone, block 128", "linears", "int4", *_LINEARS),
)


def planned(sizes: Mapping[str, int], source: Path) -> list[Recipe]:
    """Plans for packages of `source` that store no more bytes than the peers, whose names give `sizes`.

    A budget is of the weights that are planned for; vectors are stored in 32 bits on top of them.
    """
    shapes = [shape for _, shape in tensors_of(source / WEIGHTS).values()]
    vectors = sum(math.prod(shape) for shape in shapes if len(shape) < 2)
    matrices = sum(map(math.prod, shapes)) - vectors
    found = []
    for kind in ("Q4_0", "Q4_K_M"):
        peer = gguf(kind, importance=True).name
        if peer in sizes:
            bits = (8 * sizes[peer] - 32 * vectors) / matrices
            budget = f"bpw={math.floor(bits * 1e4) / 1e4}"
            found.append(ours(f"at {kind}'s bits", f"plan-{kind}", "int4", "--budget", budget, *_LEARNED))
    return found


def identity(recipe: Recipe, source: Path) -> str:
    """What says how the recipe makes what from which source, wherever this repository is."""
    words = [] if recipe.make is None else recipe.make(Path("SOURCE"), Path("OUT"))
    relative = [word.replace(str(ROOT), "").replace(sys.executable, "python") for word in words]
    versions = [
        peers.ENVIRONMENTS[name] for name in peers.ENVIRONMENTS if recipe.python == peers.python(name)
    ]
    content = [relative, versions, *map(_text, recipe.uses), digest(source)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


@cache
def _text(root: Path) -> str:
    """Digest of the sources under a path."""
    files = sorted(p for p in [root, *root.rglob("*")] if p.is_file() and p.suffix in _SOURCES)
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def stored(recipe: Recipe, made: Path) -> int:
    """Bytes of all tensors with trained numbers, their scales and zero points, in what the recipe made."""
    if recipe.worker == "_llama_worker.py":
        (size,) = json.loads((made.parent / "bytes.json").read_text()).values()
        return int(size)
    if recipe.file:
        return _packed_bytes(made.parent / "packed")
    return sum(_onnx_bytes(path) for path in made.glob("*.onnx"))


def _packed_bytes(folder: Path) -> int:
    """Of a checkpoint of GPTQ's layout; what was not rounded counts as in the source, in 16 bits."""
    total = 0
    for path in folder.glob("*.safetensors"):
        for name, (dtype, shape) in tensors_of(path).items():
            packed = name.endswith((".qweight", ".qzeros", ".scales", ".g_idx"))
            total += math.prod(shape) * (_BYTES[dtype] if packed else 2)
    return total


def _onnx_bytes(path: Path) -> int:
    graph = ir.load(path).graph
    positions = {
        node.inputs[at]
        for node in graph.all_nodes()
        for at in _POSITIONS.get(node.op_type, ())
        if at < len(node.inputs)
    }
    held = [value.const_value for value in graph.initializers.values() if value not in positions]
    # Two shapes of one tensor are one piece of the file.
    places = {
        (t.location, t.offset) if isinstance(t, ir.ExternalTensor) else id(t): t.nbytes
        for t in held
        if t is not None
    }
    return sum(places.values())
