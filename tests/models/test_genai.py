"""The packages of decoders run in onnxruntime-genai, and its tokenizer agrees with the source's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from graphopt.families import PackageContext
from graphopt.interface import Interface, TensorSpec
from graphopt.plugins.registry import families
from tests._models import STATEFUL
from tests.export._exports import Built, build
from tests.models._generation import expected, generate

TEXT = "def add(a, b):\n    return a + b\n\nclass Größe:\n    '''The 世界 of 12345 things.'''\n" * 3


@pytest.fixture
def made(cached: Callable[..., Path], tiny_model: Callable[..., Path]) -> Callable[[str], Built]:
    return lambda kind: build(cached, tiny_model(kind), kind)


def package(built: Built, folder: Path) -> list[str]:
    """Make `folder` a package of the unoptimized graph; what the family says about it."""
    for file in built.file.parent.glob("model.onnx*"):
        shutil.copy(file, folder)
    return built.family.package_files(built.source, built.config, folder, PackageContext(built.interface))


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "qwen3"])
def test_genai_generates_what_pytorch_does(kind: str, made: Callable[[str], Built], tmp_path: Path) -> None:
    built = made(kind)
    notes = package(built, tmp_path)
    assert ["prompts of one length" in note for note in notes] == [True] * (kind in STATEFUL)
    prompt = np.random.default_rng(0).integers(5, 4000, 11)
    (tokens,) = generate(genai.Model(str(tmp_path)), prompt[None], 12)
    assert tokens == expected(built.source, prompt, 12)


def test_genai_generates_for_a_padded_batch(made: Callable[[str], Built], tmp_path: Path) -> None:
    built = made("llama")
    package(built, tmp_path)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(5, 4000, length) for length in (4, 9)]
    padded = np.full((2, 9), settings(tmp_path)["model"]["pad_token_id"])
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = prompt
    found = generate(genai.Model(str(tmp_path)), padded, 8)
    assert found == [expected(built.source, prompt, 8) for prompt in prompts]


def test_genai_takes_no_end_of_a_prompt_for_padding(made: Callable[[str], Built], tmp_path: Path) -> None:
    """Beginning, end and padding are one token to the source."""
    built = made("llama")
    package(built, tmp_path)
    prompt = np.asarray([*np.random.default_rng(1).integers(5, 4000, 6), 0, 0])
    assert generate(genai.Model(str(tmp_path)), prompt[None], 8) == [expected(built.source, prompt, 8)]


def settings(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((folder / "genai_config.json").read_text())
    return made


def context(*names: str, heads: tuple[int, ...] = (2, 2), share: bool = False) -> PackageContext:
    states = [
        TensorSpec(f"past_key_values.{i}.{part}", "float32", ("batch", n, "past", 16))
        for i, n in enumerate(heads)
        for part in ("key", "value")
    ]
    inputs = [TensorSpec(name, "int64", ("batch", "sequence")) for name in names]
    return PackageContext(Interface((*inputs, *states), ()), share_buffer=share)


CONFIG = {"vocab_size": 4096, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
CONFIG |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}


def write(source: Path, staging: Path, made: PackageContext, **config: Any) -> list[str]:
    staging.mkdir()
    return families()["causal-lm"]().package_files(source, CONFIG | config, staging, made)


def test_the_configuration_follows_the_final_graph(tmp_path: Path) -> None:
    source = source_with(byte_level(), tmp_path / "source")
    write(source, tmp_path / "out", context("input_ids", "attention_mask", share=True))
    found = settings(tmp_path / "out")
    assert found["model"]["decoder"]["inputs"] == {
        "input_ids": "input_ids",
        "attention_mask": "attention_mask",
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }
    assert found["model"]["decoder"]["num_key_value_heads"] == 2
    assert found["model"]["decoder"]["head_size"] == 16
    assert found["model"]["type"] == "decoder"
    assert found["model"]["pad_token_id"] == CONFIG["vocab_size"] - 1
    assert found["search"] == {"max_length": 128, "past_present_share_buffer": True}


def test_generation_settings_come_from_the_source(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_model("llama"), tmp_path / "source")
    generation = {"eos_token_id": [5, 6], "do_sample": True, "temperature": 0.7, "top_k": None}
    (tmp_path / "source" / "generation_config.json").write_text(json.dumps(generation))
    write(tmp_path / "source", tmp_path / "out", context("input_ids"))
    found = settings(tmp_path / "out")
    assert found["model"]["eos_token_id"] == [5, 6]
    assert found["model"]["pad_token_id"] not in (1, 5, 6)
    assert found["model"]["bos_token_id"] == 1
    assert (found["search"]["do_sample"], found["search"]["temperature"]) == (True, 0.7)
    assert "top_k" not in found["search"]


def test_generation_settings_are_in_the_package_and_those_that_do_not_hold_are_said(tmp_path: Path) -> None:
    source = source_with(byte_level(), tmp_path / "source")
    said = {"num_beams": 4, "repetition_penalty": 1.2, "min_length": 3, "guidance_scale": 1.0}
    (source / "generation_config.json").write_text(json.dumps(said))
    notes = write(source, tmp_path / "out", context("input_ids"))
    assert notes == ["generation_config.json asks for num_beams=4, which `graphopt run` does without"]
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == said
    search = settings(tmp_path / "out")["search"]
    assert (search["repetition_penalty"], search["min_length"]) == (1.2, 3)


def test_what_genai_cannot_run_is_said(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    notes = write(tiny_model("llama"), tmp_path / "out", context("input_ids", heads=(2, 4)))
    assert notes == ["onnxruntime-genai cannot run this model: its layers have caches of different sizes"]
    assert not (tmp_path / "out" / "genai_config.json").exists()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (TensorSpec("past_key_values.0.recurrent_state", "float32", ("batch", 4, 8)), "keys and values"),
        (TensorSpec("past_key_values.0.indexer_key", "float32", ("batch", "past", 8)), "no indexer_key"),
    ],
)
def test_a_state_that_genai_has_no_name_for_is_said(
    state: TensorSpec, said: str, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    made = PackageContext(Interface((state,), ()))
    (note,) = write(tiny_model("llama"), tmp_path / "out", made)
    assert said in note
    assert not (tmp_path / "out" / "genai_config.json").exists()


def byte_level() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|begin|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([TEXT], trainer)
    return made


def with_begin_token() -> tokenizers.Tokenizer:
    made = byte_level()
    made.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 1)]
    )
    return made


def sentencepiece_bpe() -> tokenizers.Tokenizer:
    """As Llama 2's: spaces become a mark, unknown characters bytes."""
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    made.train_from_iterator(TEXT.split(), trainer)  # its pieces hold no space but a leading one
    steps = (decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0))
    made.decoder = decoders.Sequence(list(steps))
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    data = json.loads(made.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] < 3]
    return tokenizers.Tokenizer.from_str(json.dumps(data))


def source_with(tokenizer: tokenizers.Tokenizer, folder: Path, **options: Any) -> Path:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return folder


@pytest.mark.parametrize(
    ("make", "special"),
    [
        (byte_level, {}),
        (with_begin_token, {"bos_token": "<|begin|>"}),
        (sentencepiece_bpe, {"bos_token": "<s>"}),
    ],
)
@pytest.mark.parametrize("named", ["TokenizersBackend", "LlamaTokenizerFast", "NonesuchTokenizer", None])
def test_genai_tokenizes_as_the_source_does(
    make: Callable[[], tokenizers.Tokenizer], special: dict[str, str], named: str | None, tmp_path: Path
) -> None:
    ours = make()
    options = special | ({"tokenizer_class": named} if named else {})
    source = source_with(ours, tmp_path / "source", model_max_length=10**30, **options)
    assert write(source, tmp_path / "out", context("input_ids")) == []
    theirs = genai.Tokenizer(str(tmp_path / "out"))
    for text in ("x = 1", TEXT, "naïve 世界"):
        assert list(theirs.encode(text)) == ours.encode(text, add_special_tokens=False).ids
    theirs.update_options(add_special_tokens="true")
    for text in ("x = 1", TEXT, "naïve 世界"):
        assert list(theirs.encode(text)) == ours.encode(text).ids
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["model_max_length"] == 128


def test_a_tokenizer_that_genai_cannot_follow_is_said(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    notes = write(source_with(made, tmp_path / "source"), tmp_path / "out", context("input_ids"))
    assert notes == ["onnxruntime-genai does not tokenize as this model's tokenizer does: give it token ids"]


def test_a_source_without_a_tokenizer_is_said(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "config.json").write_text('{"model_type": "gpt2"}')
    notes = write(tmp_path / "source", tmp_path / "out", context("input_ids"))
    assert notes == ["no tokenizer was found in the source: the package generates from token ids only"]
    assert not (tmp_path / "out" / "tokenizer.json").exists()


def test_the_chat_template_is_where_genai_reads_it(tmp_path: Path) -> None:
    source = source_with(byte_level(), tmp_path / "source", tokenizer_class="TokenizersBackend")
    template = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    (source / "chat_template.jinja").write_text(template)
    write(source, tmp_path / "out", context("input_ids"))
    messages = json.dumps([{"role": "user", "content": "hello"}])
    tokenizer = genai.Tokenizer(str(tmp_path / "out"))
    assert tokenizer.apply_chat_template(messages=messages, add_generation_prompt=False) == "<user>hello"


def padding(folder: Path, tokenizer: tokenizers.Tokenizer, rows: int, **ids: Any) -> tuple[int, list[str]]:
    """Which id pads, and what is said about it."""
    notes = write(
        source_with(tokenizer, folder / "source"),
        folder / "out",
        context("input_ids"),
        **ids,
        vocab_size=rows,
    )
    return settings(folder / "out")["model"]["pad_token_id"], [note for note in notes if "padding" in note]


@pytest.mark.parametrize("make", [byte_level, sentencepiece_bpe])
@pytest.mark.parametrize(
    ("ids", "row", "of"),
    [
        ({"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}, 0, "source"),
        ({"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 0}, 0, "byte"),
        ({"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": [0, 1]}, 0, "byte"),
        ({"pad_token_id": None, "eos_token_id": 0}, 0, "byte"),
        ({"pad_token_id": 30, "eos_token_id": 0}, 0, "byte"),
        ({"pad_token_id": None, "eos_token_id": 0}, 8, "row"),
    ],
)
def test_padding_is_what_no_text_has(
    make: Callable[[], tokenizers.Tokenizer], ids: dict[str, Any], row: int, of: str, tmp_path: Path
) -> None:
    tokenizer = make()
    rows = tokenizer.get_vocab_size() + row
    found, notes = padding(tmp_path, tokenizer, rows, **ids)
    byte = {tokenizer.token_to_id(word) for word in ("ÿ", "<0xFF>")}
    assert notes == []
    assert found in {"source": {1}, "row": {rows - 1}, "byte": byte}[of]


def test_padding_that_a_text_may_have_is_said(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    assert padding(tmp_path, made, 2, eos_token_id=1)[1] == [
        "onnxruntime-genai takes tokens 1 at the end of a prompt for padding: leave them out"
    ]
