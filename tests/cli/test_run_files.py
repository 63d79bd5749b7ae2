"""`graphopt run` on pictures and on recorded speech: what is found is what transformers finds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from PIL import Image
from scipy.signal import resample_poly

from graphopt import export_package
from graphopt.cli import _main
from graphopt.package import Finding, _media

Make = Callable[[str], tuple[Path, Path]]
Run = Callable[..., tuple[int, str]]

PICTURES = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.4],
}
SOUNDS = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "do_normalize": True}
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]


@pytest.fixture
def made(cached: Callable[[str, Callable[[Path], None]], Path], tiny_model: Callable[..., Path]) -> Make:
    """`made(kind)` is a source and its package, which say how a file is read. Never write to them."""

    def build(kind: str) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            options: dict[str, Any] = {"num_labels": 7} if kind == "vit" else {}
            shutil.copytree(tiny_model(kind, **options), folder / "source")
            said = PICTURES if kind == "vit" else SOUNDS
            (folder / "source" / "preprocessor_config.json").write_text(json.dumps(said))
            if kind == "wav2vec2":
                letters = {letter: number for number, letter in enumerate(LETTERS)}
                (folder / "vocab.json").write_text(json.dumps(letters))
                transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(
                    folder / "source"
                )
            export_package(folder / "source", folder / "package")

        return write

    def folders(kind: str) -> tuple[Path, Path]:
        folder = cached(f"run-files-{kind}", build(kind))
        return folder / "source", folder / "package"

    return folders


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        code = _main.run(["run", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out if code == 0 else said.err

    return run


def test_a_picture_gets_the_classes_that_transformers_gives_it(made: Make, run: Run, tmp_path: Path) -> None:
    source, package = made("vit")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    code, text = run(package, tmp_path / "picture.png", "--json", tmp_path / "found.json")
    (answer,) = json.loads((tmp_path / "found.json").read_text())
    processor = transformers.AutoImageProcessor.from_pretrained(source)
    model = transformers.AutoModelForImageClassification.from_pretrained(source)
    image = Image.fromarray(pixels).convert("RGB")
    with torch.no_grad():
        shares = model(**processor(images=image, return_tensors="pt")).logits.softmax(-1)[0]
    best = shares.topk(5)
    assert code == 0
    assert [found["text"] for found in answer["findings"]] == [f"LABEL_{int(i)}" for i in best.indices]
    np.testing.assert_allclose([found["score"] for found in answer["findings"]], best.values, rtol=1e-4)
    assert f"{float(best.values[0]):6.1%}  LABEL_{int(best.indices[0])}" in text


def test_speech_of_another_rate_and_two_channels_is_written_down(
    made: Make, run: Run, tmp_path: Path
) -> None:
    source, package = made("wav2vec2")
    rng = np.random.default_rng(0)
    wave = rng.standard_normal((48_000, 2)).astype(np.float32) / 8
    soundfile.write(tmp_path / "speech.flac", wave, 24_000)
    code, text = run(package, tmp_path / "speech.flac")
    stored, _ = soundfile.read(tmp_path / "speech.flac", dtype="float32")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
    model = transformers.AutoModelForCTC.from_pretrained(source)
    inputs = extractor(resample_poly(stored.mean(1), 2, 3), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        letters = model(inputs["input_values"]).logits.argmax(-1)[0]
    said = transformers.AutoTokenizer.from_pretrained(source).decode(letters, skip_special_tokens=True)
    assert (code, text) == (0, f"{said}\n")
    assert len(said) > 5


def test_files_that_are_none(made: Make, run: Run, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"no picture, no sound")
    assert "is a folder" in run(made("vit")[1], tmp_path)[1]
    for kind, what in (("vit", "is no picture"), ("wav2vec2", "is no sound")):
        _, package = made(kind)
        code, text = run(package, tmp_path / "noise")
        assert code == 2
        assert what in text
        assert run(package, tmp_path / "missing")[0] == 2
        assert run(package)[0] == 2


def test_objects_are_in_pixels_of_the_file() -> None:
    logits = np.full((1, 3, 3), -5.0, np.float32)
    logits[0, 0, 1] = logits[0, 1, 2] = logits[0, 2, 0] = 5  # the last class is no object
    boxes = np.asarray([[[0.5, 0.5, 0.5, 0.25], [0.5, 0.5, 1, 1], [0.25, 0.25, 0.5, 0.5]]], np.float32)
    names = {0: "cat", 1: "dog"}
    found = _media._objects(
        {"logits": logits, "pred_boxes": boxes}, lambda i: names.get(i, str(i)), (200, 100)
    )
    assert [(f.text, f.box) for f in found] == [("dog", (50, 38, 150, 62)), ("cat", (0, 0, 100, 50))]
    named = _media._objects({"logits": logits, "pred_boxes": boxes}, lambda i: f"label {i}", (200, 100))
    assert len(named) == 3


def test_regions_are_shares_of_the_picture() -> None:
    logits = np.zeros((1, 3, 2, 2), np.float32)
    logits[0, 2, 0], logits[0, 1, 1, 0] = 1, 1
    found = _media._regions({"logits": logits}, str, (4, 4))
    assert found == [Finding("2", 0.5), Finding("0", 0.25), Finding("1", 0.25)]
