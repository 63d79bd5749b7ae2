"""What a package takes over from its source: a text is the same tokens and the same vector from both."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from graphopt_models._files import beyond_the_table, copy_config, copy_sentence_modules, copy_tokenizer
from graphopt_models.encoder import Encoder

from graphopt.errors import BadInput
from graphopt.families import PackageContext
from graphopt.interface import Interface

LINES = re.compile(r"VOCAB_FILES_NAMES\s*=\s*\{(.*?)\}", re.S)
TABLE = {"vocab_size": 4096}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    (tmp_path / "staging").mkdir()
    return tmp_path / "staging"


def every_name() -> set[str]:
    """The files that any tokenizer of transformers reads."""
    texts = (p.read_text() for p in Path(transformers.__file__).parent.glob("models/*/tokenization_*.py"))
    tables = (table for text in texts for table in LINES.findall(text))
    return {name for table in tables for name in re.findall(r':\s*"([^"]+)"', table)}


def test_every_file_that_a_tokenizer_of_transformers_reads_is_taken_over(source: Path, staging: Path) -> None:
    names = every_name() | {"qwen.tiktoken", "tekken.json", "additional_chat_templates/tool.jinja"}
    assert {"spm.model", "sentencepiece.bpe.model", "bpe.codes"} < names
    for name in names:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    (source / "model.safetensors").write_text("not a tokenizer's")

    copy_tokenizer(source, staging)

    copied = {str(p.relative_to(staging)): p.read_text() for p in staging.rglob("*") if p.is_file()}
    assert copied == {name: name for name in names}


def test_a_tokenizer_in_files_of_its_own_gives_the_same_ids(source: Path, staging: Path) -> None:
    """PhoBERT's are Python, a vocabulary and merges: they need no library that may not be here."""
    (source / "vocab.txt").write_text("he@@ 1\nllo 1\nhello 1\nw@@ 1\norld 1\n")
    (source / "bpe.codes").write_text("h e 9\nl l 8\nll o</w> 7\no r 6\nor l 5\norl d</w> 4\n#version: 0.2\n")
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "PhobertTokenizer"}')
    (source / "config.json").write_text('{"model_type": "roberta"}')

    copy_tokenizer(source, staging)
    copy_config(source, staging)

    ours, theirs = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (staging, source))
    assert ours("hello world")["input_ids"] == theirs("hello world")["input_ids"] == [0, 4, 5, 7, 8, 2]


def sentence_transformer(source: Path, *weights: str) -> Path:
    """The files beside the graph of a model with pooling, a dense layer and normalization."""
    modules = [{"path": path} for path in ("", "1_Pooling", "2_Dense", "3_Normalize")]
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    for name in ("1_Pooling/config.json", "2_Dense/config.json", *weights):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    return source


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_an_encoder_s_package_holds_pooling_and_dense_layers(
    source: Path, staging: Path, tiny_coder: Path
) -> None:
    sentence_transformer(source, "2_Dense/model.safetensors")
    shutil.copy(tiny_coder / "tokenizer.json", source)
    context = PackageContext(Interface((), ()))

    assert Encoder().package_files(source, TABLE, staging, context) == []

    assert files(staging) == files(source)
    assert (staging / "2_Dense" / "model.safetensors").read_text() == "2_Dense/model.safetensors"


def test_modules_beside_the_model_s_folder_are_taken_over_too(source: Path, staging: Path) -> None:
    sentence_transformer(source)
    modules = [{"path": path} for path in ("0_Transformer", "1_Pooling")]
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "0_Transformer").mkdir()
    (source / "sentence_bert_config.json").rename(source / "0_Transformer" / "sentence_bert_config.json")

    assert copy_sentence_modules(source / "0_Transformer", staging) == []

    beside = {"modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"}
    assert files(staging) == beside | {"1_Pooling/config.json"}
    assert json.loads((staging / "modules.json").read_text()) == [{"path": ""}, {"path": "1_Pooling"}]


def test_pickled_weights_are_left_and_named(source: Path, staging: Path) -> None:
    sentence_transformer(source, "2_Dense/pytorch_model.bin")
    assert copy_sentence_modules(source, staging) == [
        "not taken over, as it is pickled: 2_Dense/pytorch_model.bin"
    ]
    assert "2_Dense/pytorch_model.bin" not in files(staging)


@pytest.mark.parametrize("path", ["..", "../other", "/etc", "a/b", ".", 3, None])
def test_modules_elsewhere_are_not_looked_for(source: Path, staging: Path, path: object) -> None:
    (source.parent / "other").mkdir()
    (source.parent / "config.json").write_text("{}")
    (source.parent / "other" / "config.json").write_text("{}")
    (source / "modules.json").write_text(json.dumps([{"path": path}, 3]))
    assert copy_sentence_modules(source, staging) == []
    assert files(staging) == {"modules.json"}


def test_a_damaged_list_of_modules_is_refused(source: Path, staging: Path) -> None:
    (source / "modules.json").write_text("[")
    with pytest.raises(BadInput, match=r"modules\.json is damaged"):
        copy_sentence_modules(source, staging)


def test_a_link_out_of_the_model_s_folder_is_refused(source: Path, staging: Path) -> None:
    (source.parent / "secret").write_text("of this machine")
    (source / "vocab.txt").symlink_to(source.parent / "secret")
    with pytest.raises(BadInput, match=r"vocab\.txt is a link to .*secret, outside"):
        copy_tokenizer(source, staging)
    assert not os.listdir(staging)


def test_a_tokenizer_that_was_not_fetched_is_refused(source: Path, staging: Path) -> None:
    (source / "tokenizer.json").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"
    )
    with pytest.raises(BadInput, match=r"tokenizer\.json is a Git LFS pointer"):
        copy_tokenizer(source, staging)


def test_tokens_without_a_row_are_noted(staging: Path, tiny_coder: Path) -> None:
    shutil.copy(tiny_coder / "tokenizer.json", staging)
    rows = transformers.AutoTokenizer.from_pretrained(tiny_coder).vocab_size
    assert beyond_the_table(staging, {"vocab_size": rows}) == []
    (note,) = beyond_the_table(staging, {"vocab_size": rows - 5})
    assert note.startswith(f"the tokenizer has tokens for which the model has no row ({rows - 5} rows): ")
    assert note.endswith(" and 2 more; a text with one of them cannot be run")


def test_tokens_without_a_row_are_noted_of_a_list_of_words(staging: Path) -> None:
    (staging / "vocab.txt").write_text("[PAD]\nhello\n")
    (staging / "added_tokens.json").write_text('{"<new>": 2}')
    assert beyond_the_table(staging, {"vocab_size": 3}) == []
    (note,) = beyond_the_table(staging, {"vocab_size": 2})
    assert "tokens for which the model has no row (2 rows): '<new>' (2);" in note


def test_a_package_tells_of_them(tiny_model: Callable[..., Path], staging: Path) -> None:
    source = tiny_model("bert")
    rows = max(transformers.AutoTokenizer.from_pretrained(source).get_vocab().values())
    (note,) = Encoder().package_files(
        source, {"vocab_size": rows}, staging, PackageContext(Interface((), ()))
    )
    assert f"has no row ({rows} rows)" in note
