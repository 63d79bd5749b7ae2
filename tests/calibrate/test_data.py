"""What a model can be calibrated on, and what it says of anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from graphopt.build import _calibration
from graphopt.build._calibration import calibration_of
from graphopt.calibrate import from_arrays
from graphopt.errors import BadInput
from graphopt.export import Exported
from graphopt.interface import Interface, TensorSpec
from graphopt.plugins import registry

IMAGES = Interface((TensorSpec("pixels", "float32", ("batch", 3, 2)),))
DECODER = Interface(
    (
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        TensorSpec("attention_mask", "int64", ("batch", "total")),
        TensorSpec("past_key_values.0.key", "float32", ("batch", 2, "past", 4)),
    )
)
NO_GRAPH: Any = ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)
IMAGE_MODEL = Exported(NO_GRAPH, IMAGES, "onnx")


@pytest.fixture
def language_model(tiny_coder: Path) -> Exported:
    config = json.loads((tiny_coder / "config.json").read_text())
    family = registry.families()["causal-lm"]()
    return Exported(NO_GRAPH, DECODER, "text-generation", family, config, tiny_coder)


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_embedded_text_is_the_default(language_model: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calibration, "_WORK", 1)  # so that the model counts as large
    data = calibration_of(language_model, None)
    assert data is not None
    assert (data.name, data.rows, data.unit, data.file) == ("calibration.txt", 8192, "tokens", "")
    assert [feeds["input_ids"].shape for feeds in data] == [(1, 512)] * 16
    again = calibration_of(language_model, None)
    assert again is not None
    assert again.digest == data.digest


@pytest.fixture
def encoder(tmp_path: Path) -> Exported:
    """It reads at most 64 tokens, one a word, between 0 and 1."""
    words = {"[CLS]": 0, "[SEP]": 1, "<unk>": 2, **{c: 3 + i for i, c in enumerate("abcdefgh")}}
    library = Library(models.WordLevel(words, "<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    frame: Any = [("[CLS]", 0), ("[SEP]", 1)]
    library.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    (tmp_path / "encoder").mkdir()
    library.save(str(tmp_path / "encoder" / "tokenizer.json"))
    config = {"vocab_size": 11, "max_position_embeddings": 64}
    family = registry.families()["encoder"]()
    texts = Interface(DECODER.inputs[:2])
    return Exported(NO_GRAPH, texts, "feature-extraction", family, config, tmp_path / "encoder")


def test_what_reads_whole_texts_is_given_such_and_short_ones_among_them(
    encoder: Exported, tmp_path: Path
) -> None:
    data = calibration_of(encoder, written(tmp_path / "t.txt", "a b c d e f g h " * 50))
    assert data is not None
    texts = [feeds["input_ids"][0].tolist() for feeds in data]
    assert [len(text) for text in texts[:5]] == [64, 33, 18, 17, 64]
    for text in texts:
        assert (text[0], text[-1]) == (0, 1)
        assert not {0, 1} & set(text[1:-1])


def test_a_small_model_reads_more_of_it(language_model: Exported) -> None:
    data = calibration_of(language_model, None)
    assert data is not None
    assert 8192 < data.rows <= 65536


def test_a_model_that_reads_no_text_has_no_default() -> None:
    assert calibration_of(IMAGE_MODEL, None) is None


def test_text_of_a_file_and_of_a_folder(language_model: Exported, tmp_path: Path) -> None:
    text = "def f(x):\n    return x + 1\n" * 20
    file = calibration_of(language_model, written(tmp_path / "t.txt", text))
    folder = calibration_of(language_model, written(tmp_path / "d" / "one.txt", text).parent)
    assert file is not None
    assert folder is not None
    assert file.digest == folder.digest
    assert file.content != folder.content
    assert (file.file, folder.name) == (str(tmp_path / "t.txt"), "d")


def test_the_last_tokens_can_be_read_one_in_a_call(language_model: Exported, tmp_path: Path) -> None:
    data = calibration_of(language_model, written(tmp_path / "t.txt", "import os\n" * 4))
    domain = language_model.domain()
    assert data is not None
    assert domain is not None
    stepwise = data.in_steps(domain, 2)
    assert stepwise is not None
    length = data.rows
    shapes = [(f["input_ids"].shape[1], f["attention_mask"].shape[1]) for f in stepwise]
    assert shapes == [(length - 2, length - 2), (1, length - 1), (1, length)]
    assert ["past_key_values.0.key" in feeds for feeds in stepwise] == [True, False, False]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: f / "gone", "there is no .*gone to calibrate on"),
        (lambda f: written(f / "t.txt", b"\xff\xfe\x00"), "is not a text file"),
        (lambda f: written(f / "t.txt", " \n"), "is empty"),
        (lambda f: written(f / "t.txt", "a"), "less than two tokens"),
        (lambda f: written(f / "e" / "x.md", "a").parent, "e has nothing to calibrate on"),
        (lambda f: "no_such_module:texts", "there is no function no_such_module:texts"),
        (lambda f: "json:nothing", "there is no function json:nothing"),
        (lambda f: "threading:enumerate", "gives neither texts nor dicts"),
    ],
)
def test_what_is_no_text_is_refused(
    language_model: Exported, tmp_path: Path, make: Callable[[Path], Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        calibration_of(language_model, make(tmp_path))
    assert refused.value.exit_code == 2


def test_text_of_another_tokenizer_is_refused(language_model: Exported, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "known": 1, "words": 2, "beyond": 9000}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    model = replace(language_model, source_dir=tmp_path)

    assert calibration_of(model, written(tmp_path / "a.txt", "known words " * 9)) is not None
    with pytest.raises(BadInput, match=r"50% of the tokens of b\.txt are unknown"):
        calibration_of(model, written(tmp_path / "b.txt", "known things " * 9))
    with pytest.raises(BadInput, match=r"token 9000 of c\.txt, and the model knows \d+ tokens"):
        calibration_of(model, written(tmp_path / "c.txt", "known beyond " * 9))
    assert calibration_of(model, None) is None  # Python is nothing it knows


def test_a_function_gives_texts_or_arrays(
    language_model: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(
        tmp_path / "given_here.py",
        "import numpy as np\n"
        "def texts(): yield 'import os' * 9; yield 'import re' * 9\n"
        "def images(): return [{'pixels': np.zeros((2, 3, 2), np.float32)}]\n",
    )
    monkeypatch.chdir(tmp_path)
    texts = calibration_of(language_model, "given_here:texts")
    images = calibration_of(IMAGE_MODEL, "given_here:images")
    assert texts is not None
    assert images is not None
    assert len(texts.calls) == 2
    assert (images.rows, images.unit) == (2, "samples")


def test_arrays_are_taken_a_few_samples_at_a_time(tmp_path: Path) -> None:
    pixels = np.arange(20 * 6, dtype=np.float32).reshape(20, 3, 2)
    np.savez(tmp_path / "images.npz", pixels=pixels)
    data = calibration_of(IMAGE_MODEL, tmp_path / "images.npz")
    assert data is not None
    assert (data.rows, [len(feeds["pixels"]) for feeds in data]) == (20, [8, 8, 4])
    assert np.array_equal(np.concatenate([feeds["pixels"] for feeds in data]), pixels)
    several = calibration_of(IMAGE_MODEL, tmp_path)
    assert several is not None
    assert several.digest == data.digest


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "x has no array for the input 'pixels'"),
        ({"pixel": np.zeros((1, 3, 2), np.float32)}, "no input 'pixel'"),
        ({"pixels": np.zeros((1, 3, 5), np.float32)}, r"'pixels' is float32\[1, 3, 5\]"),
        ({"pixels": np.zeros((1, 3, 2))}, r"'pixels' is float64\[1, 3, 2\]"),
        ({"pixels": np.zeros((0, 3, 2), np.float32)}, "no samples"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        from_arrays("x", [arrays], IMAGES)


def test_too_little_says_how_much_is_needed() -> None:
    data = from_arrays("x.npz", [{"pixels": np.zeros((2, 3, 2), np.float32)}], IMAGES)
    data.require(2, "nothing")
    with pytest.raises(BadInput, match=r"x\.npz is too short .*: GPTQ needs 100 samples, it has 2"):
        data.require(100, "GPTQ")
