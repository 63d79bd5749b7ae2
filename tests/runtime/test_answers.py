"""What transformers' `generate` does with a model's settings, a package does; and what else can be asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from graphopt import BadInput, Package
from graphopt.runtime import Decoder, Sampling, Tokenizer
from tests.runtime._served import served
from tests.runtime.conftest import change, opened, opens_texts, text_model

PROMPT = "class A:\n    x = 1\n    y = 1\n    x = 1\n"
COUNT = 32
SETTINGS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 3},
    {"min_length": 45, "eos_token_id": [0, 10, 271]},
    {"min_new_tokens": 7, "eos_token_id": [0, 10, 271]},
    {"suppress_tokens": [10, 271], "begin_suppress_tokens": [300]},
    {"bad_words_ids": [[10], [271, 362]], "sequence_bias": [[[300], 4.0]]},
]
IN_GENAI = {"repetition_penalty", "no_repeat_ngram_size", "min_length", "eos_token_id"}


@pytest.fixture(scope="module")
def lossless(tiny_coder_at: Callable[[str], Path]) -> Path:
    return tiny_coder_at("lossless")


@pytest.fixture(scope="module")
def network(tiny_coder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_coder, dtype=torch.float32)


def saying(package: Path, folder: Path, said: dict[str, Any]) -> Package:
    """A copy of the package whose source had these settings."""
    shutil.copytree(package, folder)
    (folder / "generation_config.json").write_text(json.dumps(said))
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["eos_token_id"] = said.get("eos_token_id", 0)
    config["search"] |= {key: said[key] for key in said if key in IN_GENAI - {"eos_token_id"}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    return Package.load(folder)


@pytest.mark.parametrize("said", SETTINGS, ids=lambda s: "+".join(s) or "none")
def test_the_answer_is_that_of_transformers(
    said: dict[str, Any], lossless: Path, network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = saying(lossless, tmp_path / "package", said)
    tokenizer = Tokenizer(lossless)
    prompt = torch.tensor([tokenizer.opened(PROMPT)])
    made = network.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=COUNT,
        do_sample=False,
        pad_token_id=0,
        **said,
    )
    ends = said.get("eos_token_id", [0])
    tokens = [token for token in made[0, prompt.shape[1] :].tolist() if token not in ends]

    for kernels in ("graphopt", "onnxruntime"):
        monkeypatch.setenv("GRAPHOPT_KERNELS", kernels)
        for speculate in (False, True):
            (found,) = package.completions([PROMPT], max_new_tokens=COUNT, speculate=speculate)
            assert list(found.tokens) == tokens
    if set(said) <= IN_GENAI:
        assert served(package.path, PROMPT, COUNT) == found.text


def test_settings_that_are_written_for_genai_count_where_there_are_no_others(own: Path) -> None:
    plain = "".join(text_model(own).generate(PROMPT, max_new_tokens=16))
    config = json.loads((own / "genai_config.json").read_text())
    change(own / "genai_config.json", search=config["search"] | {"repetition_penalty": 5.0})
    penal = "".join(text_model(own).generate(PROMPT, max_new_tokens=16))
    asked = Sampling(repetition_penalty=1.0)

    assert penal != plain
    assert "".join(text_model(own).generate(PROMPT, max_new_tokens=16, sampling=asked)) == plain


def test_a_penalty_that_cannot_be() -> None:
    with pytest.raises(BadInput, match="above 0"):
        Sampling(repetition_penalty=0.0)


def test_an_answer_ends_before_a_stop_string(own: Path) -> None:
    model = text_model(own)
    whole = model.generate(PROMPT, max_new_tokens=16).completion()
    word = whole.text[4:8]
    pieces = model.generate(PROMPT, max_new_tokens=16, stop=[word])
    change(own / "genai_config.json", search={"past_present_share_buffer": True, "stop_strings": word})

    assert "".join(pieces) == whole.text[: whole.text.index(word)]
    assert pieces.completion().finish_reason == "stop"
    assert whole.finish_reason == "length"
    assert text_model(own).generate(PROMPT, max_new_tokens=16).completion().text == pieces.completion().text


def test_probabilities_are_the_models_own(folder: Path) -> None:
    model, decoder = text_model(folder), Decoder(opened(folder))
    sampling = Sampling(temperature=2.0, seed=1, repetition_penalty=2.0)
    found = model.generate(PROMPT, max_new_tokens=5, sampling=sampling, logprobs=2).completion()
    assert found.logprobs is not None
    assert len(found.logprobs) == len(found.tokens) == 5
    assert found.prompt_tokens == len(model.encode(PROMPT))
    assert model.generate(PROMPT, max_new_tokens=2).completion().logprobs is None

    fed = model.encode(PROMPT)
    for token, told in zip(found.tokens, found.logprobs, strict=True):
        expected = torch.log_softmax(
            torch.tensor(decoder.append(np.asarray(fed))[0, -1].astype(np.float64)), 0
        )
        top = expected.topk(2)
        assert told.id == token
        assert told.token == Tokenizer(folder).word(token)
        assert told.logprob == pytest.approx(float(expected[token]), abs=1e-4)
        assert [each.id for each in told.top_logprobs] == top.indices.tolist()
        assert [each.logprob for each in told.top_logprobs] == pytest.approx(top.values.tolist(), abs=1e-4)
        fed = [token]


@pytest.fixture
def chatty(lossless: Path, tmp_path: Path) -> Package:
    """tiny-coder with a template that says who says what."""
    folder = Path(shutil.copytree(lossless, tmp_path / "chat"))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}# {{ m.role }}: {{ m.content }}\n{% endfor %}def "
    )
    return Package.load(folder)


def test_a_system_prompt_and_several_turns(chatty: Package) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "area"},
        {"role": "assistant", "content": "of what?"},
        {"role": "user", "content": "square"},
    ]
    words = "# system: Be brief.\n# user: area\n# assistant: of what?\n# user: square\ndef "

    assert chatty.generate(turns, max_new_tokens=8) == chatty.generate(words, max_new_tokens=8)
    assert chatty.generate(turns[1:], system="Be brief.", max_new_tokens=8) == chatty.generate(
        words, max_new_tokens=8
    )
    assert chatty.generate("area", system="Be brief.", max_new_tokens=8) == chatty.generate(
        "# system: Be brief.\n# user: area\ndef ", max_new_tokens=8
    )


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"content": "a"}], "has no role"),
        ([{"role": "user"}], "has no content"),
        ([{"role": "user", "content": "a"}, "b"], "has no role"),
    ],
)
def test_what_is_no_message(chatty: Package, messages: list[Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        chatty.generate(messages)


def test_several_prompts_in_one_call(chatty: Package) -> None:
    prompts = ["import os\n", "def area(width, height):"]
    alone = [chatty.generate(prompt, max_new_tokens=6) for prompt in prompts]
    chat = [{"role": "user", "content": "area"}]

    assert chatty.generate(prompts, max_new_tokens=6) == alone
    assert chatty.generate([chat, chat], max_new_tokens=4) == [chatty.generate(chat, max_new_tokens=4)] * 2
    assert chatty.generate([], max_new_tokens=6) == []


def test_tokens_that_the_model_does_not_have(own: Path) -> None:
    opens_texts(own)
    data = json.loads((own / "tokenizer.json").read_text())
    added = data["added_tokens"][0] | {"id": 4096, "content": "<|more|>"}
    change(own / "tokenizer.json", added_tokens=[*data["added_tokens"], added])

    with pytest.raises(BadInput, match=r"token 4096 for '<\|more\|>', and the model has 4096 tokens"):
        text_model(own).generate("x <|more|>")
