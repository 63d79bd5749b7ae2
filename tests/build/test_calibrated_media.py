"""Pictures and sounds to calibrate on: what the source's own preprocessing makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
import transformers
from PIL import Image

from graphopt import BadInput, optimize
from graphopt.build import _calibration
from graphopt.build._calibration import calibration_of
from graphopt.export import Exported
from graphopt.interface import Interface
from graphopt.ir import parse

PICTURES = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.4],
}
SOUNDS = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "do_normalize": True}
IMAGE = "float[N,3,32,32] pixel_values"


def source(inputs: str, folder: Path | None) -> Exported:
    model = parse(
        '<ir_version: 10, opset_import: ["" : 23]>\n'
        f"g ({inputs}) => (float y) {{ y = Constant<value_float = 1.0>() }}"
    )
    return Exported(model, Interface.of(model), "image-classification", source_dir=folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine pictures of different sizes and kinds, one in a folder of its own, and a file of another kind."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(9):
        pixels = rng.integers(0, 256, (20 + number, 40, 3), np.uint8)
        name = f"more/{number}.JPG" if number == 3 else f"{number}.png"
        Image.fromarray(pixels).save(folder / name)
    (folder / "README.md").write_text("pictures")
    return folder


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "preprocessor_config.json").write_text(json.dumps(PICTURES))
    return tmp_path / "source"


def test_pictures_are_what_the_preprocessor_makes_of_them(photos: Path, reader: Path) -> None:
    data = calibration_of(source(IMAGE, reader), photos)
    assert data is not None
    assert (data.rows, data.unit, [len(call["pixel_values"]) for call in data.calls]) == (
        9,
        "samples",
        [8, 1],
    )
    processor = transformers.AutoImageProcessor.from_pretrained(reader)
    with Image.open(photos / "0.png") as first:
        expected = processor(images=first.convert("RGB"), return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(data.calls[0]["pixel_values"][0], expected)


def test_of_many_some_are_read(photos: Path, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calibration, "_MEDIA", 4)
    data = calibration_of(source(IMAGE, reader), photos)
    assert data is not None
    assert data.rows == 3


def test_sounds_of_different_lengths(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SOUNDS))
    (tmp_path / "speech").mkdir()
    for number in range(3):
        wave = np.random.default_rng(number).standard_normal(800 + number).astype(np.float32) / 8
        soundfile.write(tmp_path / "speech" / f"{number}.wav", wave, 16_000)
    data = calibration_of(source("float[N,T] input_values", tmp_path), tmp_path / "speech")
    assert data is not None
    assert [call["input_values"].shape for call in data.calls] == [(1, 800), (1, 801), (1, 802)]


def test_a_picture_that_is_none(photos: Path, reader: Path) -> None:
    (photos / "5.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"5\.png is no picture that can be read"):
        calibration_of(source(IMAGE, reader), photos)


def test_pictures_for_what_says_not_how_they_are_read(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nobody says how 0\.png becomes the inputs"):
        calibration_of(source(IMAGE, None), photos)
    with pytest.raises(BadInput, match="does not say how a file becomes its inputs"):
        calibration_of(source(IMAGE, tmp_path), photos)


def test_pictures_of_another_size_than_the_model_takes(photos: Path, reader: Path) -> None:
    with pytest.raises(BadInput, match=r"'pixel_values' is float32\[9, 3, 32, 32\], which"):
        calibration_of(source("float[N,3,64,64] pixel_values", reader), photos)


def test_a_classifier_in_integers_from_a_folder_of_pictures(
    photos: Path, tmp_path: Path, cached: Callable[[str, Callable[[Path], None]], Path]
) -> None:
    def write(folder: Path) -> None:
        sizes: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}
        config = transformers.ResNetConfig(**sizes, layer_type="basic", num_labels=7)
        transformers.set_seed(0)
        transformers.ResNetForImageClassification(config).save_pretrained(folder)
        said = PICTURES | {"size": {"height": 224, "width": 224}}  # that of configurations without a size
        (folder / "preprocessor_config.json").write_text(json.dumps(said))

    package = optimize(
        cached("resnet-pictures-224", write),
        tmp_path / "out",
        recipe="int8",
        calibration=photos,
        verify="off",
    )
    graph = onnx.load(package.path / "model.onnx", load_external_data=False).graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) > 5
    assert package.report().notes[0] == "calibrated on photos: 9 samples"
    assert package.manifest.closing_check == "passed"
    assert {metric.case for metric in package.report().closing.metrics} == {"the last samples of photos"}
