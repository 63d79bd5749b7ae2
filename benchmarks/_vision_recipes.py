"""How each of those compared in vision.py is made from a net's export, and what runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import peers
from _recipes import OURS
from _rounds import stamp
from _vision_make import CALIBRATION, INPUTS, MODEL
from _vision_sources import SOURCES, Source

HERE = Path(__file__).parent
MAKE = HERE / "_vision_make.py"
_SOURCES = (
    MAKE,
    *(HERE / name for name in ("_vision_sources.py", "_vision_nets.py", "_images.py", "vision_nets")),
)


@dataclass(frozen=True)
class Made:
    """What a recipe gave: the model to run, and MB of all that it needs to be run; or why there is none."""

    path: Path | None = None
    megabytes: float = 0.0
    failed: str = ""


@dataclass(frozen=True)
class Recipe:
    """`make` gives the command that makes a folder from the export's; the first one makes the export.

    `file` is what in the folder is run, by an `engine` of _vision_worker.py in `python`. Who is not `timed`
    is as fast as one who is. `uses`: sources whose change means to make it anew.
    """

    name: str
    slug: str
    engine: str
    make: Callable[[Path, Path], list[str]]
    file: str = MODEL
    python: Path = Path(sys.executable)
    uses: tuple[Path, ...] = _SOURCES
    timed: bool = True

    def suits(self, source: Source) -> bool:
        return self.timed or source.trained

    def made(self, net: str, folder: Path) -> Made:
        """Made anew unless it is there, by the same command and sources; a failure stays one until then."""
        out, mark = folder / self.slug, folder / f"{self.slug}.made"
        first = self is SOURCE
        command = self.make(Path(net) if first else folder / SOURCE.slug, out)
        export = "" if first else (folder / f"{SOURCE.slug}.made").read_text()
        state = {"command": command, "of": stamp(*self.uses), "export": export}
        known = json.loads(mark.read_text()) if mark.is_file() else {}
        if known.get("state") != state:
            mark.unlink(missing_ok=True)
            shutil.rmtree(out, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            known = {"state": state, "failed": _failure(command, folder / f"{self.slug}.log")}
            mark.write_text(json.dumps(known))
        if known["failed"]:
            return Made(failed=known["failed"])
        files = [path for path in _needed(out / self.file) if path.is_file()]
        return Made(out / self.file, sum(path.stat().st_size for path in files) / 1e6)


def _failure(command: list[str], log: Path) -> str:
    """Run a command; why it failed, or nothing."""
    print(" ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log.write_text(done.stdout + done.stderr)
    words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return f"cannot be made: {words[-1][:80]}" if done.returncode else ""


def _needed(model: Path) -> list[Path]:
    """A graph and its weights."""
    model = model / MODEL if model.is_dir() else model
    return [model, model.with_suffix(".onnx.data"), model.with_suffix(".bin")]


def _made(*words: str, python: Path = Path(sys.executable)) -> Callable[[Path, Path], list[str]]:
    kind, *options = words
    return lambda source, out: [str(python), str(MAKE), kind, str(source), str(out), *options]


def optimized(recipe: str, *, calibrated: bool = False) -> Callable[[Path, Path], list[str]]:
    """`graphopt optimize`, edits proven as by default, without the closing check: see accuracy for that."""

    def command(source: Path, out: Path) -> list[str]:
        words = [sys.executable, "-m", "graphopt", "optimize", str(source / MODEL), "-o", str(out)]
        words += ["--recipe", recipe, "--inputs", str(source / INPUTS)]
        if calibrated:
            words += ["--calibration", str(source / CALIBRATION)]
            # What random weights do to each other says nothing of what breaks; nobody else measures it.
            trained = SOURCES[source.parent.name].trained
            words += [] if trained else ["--set", "quantize-static.damage=9"]
        return [*words, "--no-validate", "--no-cache", "--force", "--quiet"]

    return command


def static(types: str, *options: str, timed: bool = True) -> Recipe:
    words = (types, *options)
    name, slug = f"onnxruntime static {', '.join(words)}", f"static-{'-'.join(words)}"
    return Recipe(name, slug, "ort", _made("static", *words), timed=timed)


SOURCE = Recipe("source fp32", "exported", "ort", _made("exported"))
INT8 = Recipe("graphopt int8", "int8", "package", optimized("int8", calibrated=True), "", uses=OURS)
# The first makes what all others start from.
RECIPES = (
    SOURCE,
    Recipe("graphopt lossless", "lossless", "package", optimized("lossless"), "", uses=OURS),
    INT8,
    static("U8S8"),
    static("S8S8"),
    static("U8S8", "percentile", timed=False),
    static("U8S8", "reduced", timed=False),
    Recipe("onnxruntime dynamic", "dynamic", "ort", _made("dynamic")),
    Recipe(
        "OpenVINO int8",
        "openvino",
        "openvino",
        _made("openvino", python=peers.python("openvino")),
        "model.xml",
        peers.python("openvino"),
    ),
)
