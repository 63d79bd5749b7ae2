"""How each of those compared in decode.py is made from a checkpoint, and which process measures it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import peers
from _rounds import Peer, stamp

HERE = Path(__file__).parent
ROOT = HERE.parent
OURS = tuple(ROOT / name for name in ("graphopt", "passes", "targets", "models"))

Command = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Recipe:
    """`make` gives the command that makes a folder from a checkpoint; without it the checkpoint is run.

    `slug` names the folder, `file` what in it is run, by the script `worker` in `python`, with `environment`.
    `alone`: with the engine's own number of threads. `uses`: sources whose change means to make it anew.
    `whole` makes what accuracy is measured on, where that is another: with the logits of every position, say.
    """

    name: str
    slug: str
    worker: str
    make: Command | None = None
    file: str = ""
    python: Path = Path(sys.executable)
    environment: tuple[str, ...] = ()
    alone: bool = False
    uses: tuple[Path, ...] = ()
    whole: Command | None = None

    def made(self, source: Path, folder: Path) -> Path:
        """What to run, made from `source` in `folder` unless it is there, by the same command and sources."""
        if self.make is None:
            return source
        out, mark = folder / self.slug, folder / f"{self.slug}.made"
        command = self.make(source, out)
        state = json.dumps([command, stamp(*self.uses), (source / "config.json").read_text()])
        if not mark.is_file() or mark.read_text() != state:
            mark.unlink(missing_ok=True)
            shutil.rmtree(out, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            print(" ".join(command), file=sys.stderr, flush=True)
            with (folder / f"{self.slug}.log").open("w") as log:
                if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
                    raise SystemExit(f"{self.name} cannot be made, see {log.name}")
            mark.write_text(state)
        return out / self.file

    def maker(self, source: Path, folder: Path) -> Peer | None:
        """The process that makes the recipe in `folder`, to be timed."""
        if self.make is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        log = str(folder / f"{self.slug}.log")
        command = (sys.executable, str(HERE / "_timed.py"), log, *self.make(source, folder / self.slug))
        return Peer(self.name, command, stamp(*self.uses))

    def peer(self, model: Path, threads: int, *, prompt: int, new: int, batch: int) -> Peer:
        worker = HERE / self.worker
        options = {"prompt": prompt, "new": new, "batch": batch, "threads": 0 if self.alone else threads}
        chosen = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = ["env", *self.environment, str(self.python), str(worker), str(model), *chosen]
        made = stamp(worker, HERE / "_measure.py", model, *self.uses)
        return Peer(self.name, tuple(command), f"{made} {' '.join([*self.environment, *chosen])}")


def graphopt(recipe: str, *settings: str, validate: bool = False, target: str = "") -> Command:
    def command(source: Path, folder: Path) -> list[str]:
        base = [sys.executable, "-m", "graphopt", "optimize", str(source), "-o", str(folder)]
        chosen = [text for setting in settings for text in ("--set", setting)]
        checked = [] if validate else ["--no-validate"]
        there = ["--target", target] if target else []
        return [*base, "--recipe", recipe, *there, *checked, "--no-cache", "--force", *chosen]

    return command


def builder(*options: str) -> Command:
    def command(source: Path, folder: Path) -> list[str]:
        base = [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            str(source),
            "-o",
            str(folder),
        ]
        base += ["-p", "int4", "-e", "cpu", "-c", str(folder.with_suffix(".cache"))]
        return [*base, *(["--extra_options", *options] if options else [])]

    return command


def gguf(source: Path, folder: Path) -> list[str]:
    return [str(peers.python("llama")), str(HERE / "_gguf.py"), str(source), str(folder), "Q4_0", "Q4_K_M"]


def gguf_avx2(source: Path, folder: Path) -> list[str]:
    return [str(peers.python("llama-avx2")), str(HERE / "_gguf.py"), str(source), str(folder), "Q4_0"]


def exported(source: Path, folder: Path) -> list[str]:
    return [sys.executable, str(HERE / "_transformers_export.py"), str(source), str(folder)]


def tuned(block: int) -> Recipe:
    """The builder's package with blocks of this size and a pruned head, with graphopt's threads."""
    size = f"block_size={block}"
    name, slug = f"genai builder, tuned, block {block}", f"builder-{block}"
    return Recipe(name, slug, _GENAI, builder(size, "prune_lm_head=1"), whole=builder(size))


_GENAI, _LLAMA = "_genai_worker.py", "_llama_worker.py"
_GGUF = (HERE / "_gguf.py",)
# What tiny-coder loses is measured at the largest blocks that a larger model may get.
_LARGEST = "quantize-weights.block_size=256"
# Random weights of a shape are rounded as is quickest: the nodes, the bytes and the speed are the same.
_NEAREST = "quantize-weights.rounding=nearest"


def ours(name: str, recipe: str, block: int = 0) -> Recipe:
    """A recipe of graphopt's, with blocks of one size or of what it chooses."""
    slug, settings = recipe, list[str]()
    if block:
        slug, settings = f"{recipe}-{block}", [f"quantize-weights.block_size={block}"]
    whole = graphopt(recipe, *(settings or [_LARGEST]))
    make = graphopt(recipe, _NEAREST, *settings)
    return Recipe(name, slug, "_graphopt_worker.py", make, uses=OURS, whole=whole)


GRAPHOPT = ours("graphopt int4", "int4")
# No worse than Q4_K_M with an importance matrix on any of the models of quality.py.
EQUAL = Recipe(
    "graphopt at Q4_K_M's quality",
    "equal-quality",
    "_graphopt_worker.py",
    graphopt(str(HERE / "equal-quality.toml"), _NEAREST),
    uses=(*OURS, HERE / "equal-quality.toml"),
)
RECIPES = (
    GRAPHOPT,
    EQUAL,
    replace(
        GRAPHOPT,
        name="graphopt int4, onnxruntime's kernels",
        environment=("GRAPHOPT_KERNELS=onnxruntime",),
    ),
    *(ours(f"graphopt int4, block {block}", "int4", block) for block in (128, 256)),
    ours("graphopt, int8 cache", "int4-kv8"),
    Recipe("llama.cpp Q4_0", "gguf", _LLAMA, gguf, "Q4_0.gguf", peers.python("llama"), uses=_GGUF),
    Recipe("llama.cpp Q4_K_M", "gguf", _LLAMA, gguf, "Q4_K_M.gguf", peers.python("llama"), uses=_GGUF),
    Recipe("genai builder, defaults", "builder", _GENAI, builder(), alone=True),
    *(tuned(block) for block in (32, 128, 256)),
    Recipe("transformers exporter, fp32", "transformers", "_transformers_worker.py", exported),
    Recipe("torch eager, bf16", "torch", "_torch_worker.py"),
)

# On a processor without AVX512, or as if on one: our products and attention, and all of llama.cpp.
AVX2 = (
    replace(GRAPHOPT, name="graphopt int4, AVX2", environment=("GRAPHOPT_KERNELS=graphopt-avx2",)),
    Recipe(
        "llama.cpp Q4_0, AVX2",
        "gguf-avx2",
        _LLAMA,
        gguf_avx2,
        "Q4_0.gguf",
        peers.python("llama-avx2"),
        uses=_GGUF,
    ),
)
