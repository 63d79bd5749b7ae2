"""A text's vector in the graph is the one that sentence-transformers makes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graphopt_models._sentence_graph import OUTPUT, add_sentence_embedding, sentence_embedding
from graphopt_models._sentence_modules import POOLINGS, Pooling, Unsupported, sentence_modules
from safetensors.numpy import save_file
from sentence_transformers.sentence_transformer.modules import Pooling as TheirPooling

from graphopt.errors import BadInput
from graphopt.ir import evaluate, parse
from tests.export._exports import TOLERANCE, build, worst_difference

TOKENS = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[batch,sequence,8] x, int64[batch,sequence] attention_mask)
      => (float[batch,sequence,8] last_hidden_state) { last_hidden_state = Identity(x) }
"""
MASKS = {
    "none": [[1, 1, 1, 1], [1, 1, 1, 1]],
    "right": [[1, 1, 1, 1], [1, 0, 0, 0]],
    "left": [[0, 0, 1, 1], [0, 1, 1, 1]],
}


def _folder(folder: Path, *modules: tuple[str, dict[str, Any], dict[str, np.ndarray]]) -> Path:
    entries = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for place, (kind, config, weights) in enumerate(modules, 1):
        path = folder / f"{place}_{kind}"
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(config))
        if weights:
            save_file(weights, path / "model.safetensors")
        entries.append({"path": path.name, "type": f"sentence_transformers.models.{kind}"})
    folder.mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("mode", POOLINGS)
def test_a_pooling_is_theirs(mode: str, padding: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 8), np.float32)
    mask = np.asarray(MASKS[padding])
    theirs = TheirPooling(8, pooling_mode=mode)(
        {"token_embeddings": torch.from_numpy(x), "attention_mask": torch.from_numpy(mask)}
    )["sentence_embedding"].numpy()
    model = parse(TOKENS)
    add_sentence_embedding(model.graph, [Pooling((mode,))])
    _, made = evaluate(model, {"x": x, "attention_mask": mask})
    np.testing.assert_allclose(made, theirs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(sentence_embedding(x, mask, [Pooling((mode,))]), theirs, rtol=1e-6, atol=1e-6)


def test_a_folder_of_modules_becomes_one_graph(
    tmp_path: Path, cached: Callable[..., Path], tiny_model: Callable[..., Path]
) -> None:
    rng = np.random.default_rng(0)
    first = {"linear.weight": rng.standard_normal((24, 128), np.float32)}
    first["linear.bias"] = rng.standard_normal(24, np.float32)
    second = {"linear.weight": rng.standard_normal((16, 24), np.float32)}
    second["residual.weight"] = rng.standard_normal((16, 24), np.float32)
    source = _folder(
        tmp_path / "model",
        ("Pooling", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, {}),
        ("Dense", {"activation_function": "torch.nn.modules.activation.Tanh"}, first),
        ("Dense", {"activation_function": "torch.nn.modules.activation.GELU", "use_residual": True}, second),
        ("Normalize", {}, {}),
    )
    for file in tiny_model("bert").iterdir():
        shutil.copy(file, source / file.name)
    built = build(cached, source, "sentence-bert")
    assert built.task == "sentence-similarity"
    sizes = {spec.name: spec.dims[-1] for spec in built.interface.outputs}
    assert sizes == {"last_hidden_state": 64, OUTPUT: 16}
    reference = built.family.reference(built.source, built.task, built.interface)
    for case in built.cases().values():
        assert case.compare[OUTPUT].all()
        assert worst_difference(built.run(case.feeds), reference(case.feeds), case) < TOLERANCE


@pytest.mark.parametrize(
    ("kind", "config", "reason"),
    [
        ("Pooling", {"pooling_mode": "median"}, "its pooling is 'median'"),
        ("Pooling", {"include_prompt": False}, "leaves the prompt out"),
        ("LSTM", {}, "LSTM is none of"),
        ("Normalize", {}, "no pooling"),
    ],
)
def test_what_no_graph_holds_is_named(kind: str, config: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=reason):
        sentence_modules(_folder(tmp_path / "model", (kind, config, {})))


@pytest.mark.parametrize(
    ("config", "weights", "reason"),
    [
        ({"activation_function": "torch.nn.modules.activation.Softplus"}, True, "ends in Softplus"),
        ({"module_input_name": "token_embeddings"}, True, "something else"),
        ({}, False, "no model.safetensors"),
    ],
)
def test_a_dense_that_no_graph_holds_is_named(
    config: dict[str, Any], weights: bool, reason: str, tmp_path: Path
) -> None:
    given = {"linear.weight": np.ones((2, 2), np.float32)} if weights else {}
    source = _folder(tmp_path / "model", ("Pooling", {}, {}), ("Dense", config, given))
    with pytest.raises(Unsupported, match=reason):
        sentence_modules(source)


def test_a_dense_without_its_weight_is_damaged(tmp_path: Path) -> None:
    given = {"other": np.ones((2, 2), np.float32)}
    with pytest.raises(BadInput, match=r"no linear\.weight"):
        sentence_modules(_folder(tmp_path / "model", ("Pooling", {}, {}), ("Dense", {}, given)))
