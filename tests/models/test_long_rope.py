"""Texts that outgrow a short RoPE are read again, as in transformers, by packages with and without drafts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from graphopt.export import load_torch_model
from graphopt.families import PackageContext
from graphopt.runtime import Decoder, Speculation, open_session
from tests.export._exports import Built, build
from tests.models._generation import expected

LENGTH, COUNT = 16, 12
ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [2.0 + 0.3 * i for i in range(8)],
}


@pytest.fixture(scope="module")
def built(
    cached: Callable[..., Path], tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Built:
    source = tiny_model("phi3", rope_parameters=ROPE, original_max_position_embeddings=LENGTH)
    return build(cached, source, "phi3-outgrown")


@pytest.fixture(scope="module")
def package(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The exported graph as a package's folder, and what is said about it."""
    folder = tmp_path_factory.mktemp("phi3")
    for file in built.file.parent.glob("model.onnx*"):
        shutil.copy(file, folder)
    return folder, built.family.package_files(
        built.source, built.config, folder, PackageContext(built.interface)
    )


def in_transformers(source: Path, prompt: np.ndarray) -> list[int]:
    network: Any = load_torch_model(source, "AutoModelForCausalLM")
    ids = torch.from_numpy(prompt)[None]
    with torch.no_grad():
        made = network.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=COUNT, do_sample=False, eos_token_id=None
        )
    return [int(token) for token in made[0, len(prompt) :]]


@pytest.mark.parametrize("drafts", [0, 8])
@pytest.mark.parametrize("length", [6, LENGTH - 1, LENGTH, LENGTH + 1, 24])
def test_a_text_that_grows_says_what_it_says_in_transformers(
    built: Built, package: tuple[Path, list[str]], length: int, drafts: int
) -> None:
    prompt = np.tile(np.random.default_rng(length).integers(5, 4000, 5), 5)[:length]
    decoder = Decoder.of(package[0], open_session(package[0] / "model.onnx"), length=length + COUNT)
    found = list(Speculation(decoder, longest=drafts).tokens(prompt.tolist(), COUNT))

    assert found == in_transformers(built.source, prompt) == expected(built.source, prompt, COUNT)


def test_keys_of_a_short_text_would_say_something_else(built: Built, package: tuple[Path, list[str]]) -> None:
    prompt = np.tile(np.random.default_rng(6).integers(5, 4000, 5), 5)[:6]
    decoder = Decoder(open_session(package[0] / "model.onnx"))
    kept = list(Speculation(decoder, longest=0).tokens(prompt.tolist(), COUNT))

    assert kept[: LENGTH - 5] == expected(built.source, prompt, COUNT)[: LENGTH - 5]
    assert kept != expected(built.source, prompt, COUNT)


def test_the_package_says_so(package: tuple[Path, list[str]]) -> None:
    folder, notes = package

    assert json.loads((folder / "genai_config.json").read_text())["graphopt"] == {"restart_at": LENGTH}
    assert [note for note in notes if f"past {LENGTH} tokens is read again" in note]


def test_models_that_read_again_are_those_of_transformers() -> None:
    from graphopt.plugins.registry import families

    module = type(families()["causal-lm"]()).__module__.rpartition(".")[0]
    restarting = __import__(f"{module}._genai", fromlist=["_RESTARTING"])._RESTARTING
    folder = Path(transformers.__file__).parent / "models"
    rereads = re.compile(r"original_max_position_embeddings \+ 1\b")
    found = {p.parent.name for p in folder.glob("*/modeling_*.py") if rereads.search(p.read_text("utf-8"))}

    assert found == set(restarting)
