"""The size of pictures that a net is exported for, where its configuration names none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from graphopt.export import export, resolve_source

SIZE = {"height": 32, "width": 32}


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ({"size": SIZE}, (32, 32)),
        (
            {"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": {"height": 48, "width": 40}},
            (48, 40),
        ),
        ({"size": {"shortest_edge": 64}, "image_processor_type": "ConvNextImageProcessor"}, (64, 64)),
        ({"size": {"shortest_edge": 64}}, (224, 224)),
        (None, (224, 224)),
    ],
)
def test_it_is_what_the_image_processor_makes(
    said: dict[str, Any] | None, size: tuple[int, int], tmp_path: Path
) -> None:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    if said is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    (pixels,) = export(resolve_source(tmp_path)).interface.inputs
    assert pixels.dims[2:] == size
