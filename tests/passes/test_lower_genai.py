"""A lowered decoder in onnxruntime-genai: the same tokens as greedy decoding without a cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai
import pytest

from graphopt.ir import save_model
from graphopt.recipes import Step
from graphopt.testing import outputs, session
from tests.passes._canonical import GEMMA2, GPT2, Shape, canonical_decoder
from tests.passes._runs import LOWERING, Lowered

PAD, END, NEW = 0, 2, 8
PROMPTS = ([5, 9, 11, 30, 7, 8], [17, 4, 21], [33, 12, 6, 8])
SHAPES = {
    "llama": Shape(),
    "qwen3": Shape(qk_norm="before"),
    "gemma2": GEMMA2,
    "gpt2": GPT2,
}


@dataclass(frozen=True)
class Package:
    shape: Shape
    folder: Path
    greedy: list[list[int]]

    def generate(self, prompts: Sequence[Sequence[int]], *, share: bool, chunks: int = 1) -> list[list[int]]:
        """Prompts and what genai adds, `chunks` calls for the prompts."""
        config = _config(self.shape, share)
        (self.folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
        parameters = genai.GeneratorParams(model := genai.Model(str(self.folder)))
        length = max(len(p) for p in prompts) + NEW
        parameters.set_search_options(
            max_length=length, batch_size=len(prompts), past_present_share_buffer=share, do_sample=False
        )
        generator = genai.Generator(model, parameters)
        for part in np.array_split(np.asarray(prompts, np.int32), chunks, axis=1):
            generator.append_tokens(part)
        while not generator.is_done():
            generator.generate_next_token()
        return [[int(t) for t in generator.get_sequence(i)] for i in range(len(prompts))]


def _config(shape: Shape, share: bool) -> dict[str, Any]:
    names = {name: name for name in ("input_ids", "attention_mask", "position_ids")}
    past = {f"past_{kind}_names": f"past_key_values.%d.{kind}" for kind in ("key", "value")}
    present = {f"present_{kind}_names": f"present.%d.{kind}" for kind in ("key", "value")}
    decoder = {
        "filename": "model.onnx",
        "session_options": {"intra_op_num_threads": 1, "provider_options": []},
        "head_size": shape.head,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "num_hidden_layers": shape.layers,
        "inputs": names | past,
        "outputs": {"logits": "logits", **present},
    }
    ids = {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": PAD, "vocab_size": shape.vocab}
    return {
        "model": {"type": "decoder", **ids, "context_length": shape.positions, "decoder": decoder},
        "search": {"max_length": shape.positions, "past_present_share_buffer": share},
    }


def _greedy(shape: Shape, prompt: Sequence[int]) -> list[int]:
    """The source's own continuation, computed from the whole text at every step."""
    run, text = session(canonical_decoder(shape)), list(prompt)
    cache = {
        f"past_key_values.{layer}.{kind}": np.zeros((1, shape.kv_heads, 0, shape.head), np.float32)
        for layer in range(shape.layers)
        for kind in ("key", "value")
    }
    while len(text) < len(prompt) + NEW and text[-1] != END:
        count = len(text)
        feeds = {"input_ids": np.asarray([text]), "attention_mask": np.ones((1, count), np.int64)}
        logits = outputs(run, {**feeds, "position_ids": np.arange(count)[None], **cache})["logits"]
        text.append(int(logits[0, -1].argmax()))
    return text[len(prompt) :]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Package]:
    made: dict[tuple[str, str], Package] = {}

    def get(name: str, mode: str) -> Package:
        if (name, mode) not in made:
            shape = SHAPES[name]
            steps = [Step(s, {"mode": mode} if s == "lower-attention" else {}) for s in LOWERING]
            lowered = Lowered(shape, "pack-qkv", *steps, "dead-code", "cse")
            folder = tmp_path_factory.mktemp(f"{name}-{mode}")
            save_model(lowered.model, folder / "model.onnx")
            made[name, mode] = Package(shape, folder, [_greedy(shape, p) for p in PROMPTS])
        return made[name, mode]

    return get


@pytest.mark.parametrize("share", [True, False], ids=["shared", "growing"])
@pytest.mark.parametrize("mode", ["masked", "dense"])
@pytest.mark.parametrize("name", SHAPES)
class TestGenai:
    def test_one_prompt(
        self, package: Callable[[str, str], Package], name: str, mode: str, share: bool
    ) -> None:
        made = package(name, mode)
        for prompt, greedy in zip(PROMPTS, made.greedy, strict=True):
            (got,) = made.generate([prompt], share=share)
            assert got == [*prompt, *greedy]

    def test_a_prompt_in_chunks(
        self, package: Callable[[str, str], Package], name: str, mode: str, share: bool
    ) -> None:
        made = package(name, mode)
        (got,) = made.generate([PROMPTS[0]], share=share, chunks=3)
        assert got == [*PROMPTS[0], *made.greedy[0]]

    def test_prompts_of_different_lengths(
        self, package: Callable[[str, str], Package], name: str, mode: str, share: bool
    ) -> None:
        """genai pads on the right; the masked form counts that padding in a window, as the source does."""
        made = package(name, mode)
        width = max(len(p) for p in PROMPTS)
        got = made.generate([[*p, *[PAD] * (width - len(p))] for p in PROMPTS], share=share)
        for text, greedy in zip(got, made.greedy, strict=True):
            new = text[width:]
            ended = new.index(END) + 1 if END in new else len(new)
            if (name, mode) != ("gemma2", "masked"):
                assert new[:ended] == greedy[:ended]
        assert got[0][width:] == made.greedy[0]


def test_genai_takes_padding_on_the_left_for_text(package: Callable[[str, str], Package]) -> None:
    """Should this fail, batches may be padded on the left too, and the decision record says otherwise."""
    made = package("llama", "masked")
    width = max(len(p) for p in PROMPTS)
    got = made.generate([[*[PAD] * (width - len(p)), *p] for p in PROMPTS], share=False)
    assert [text[width:] for text in got] != made.greedy


def test_a_wrong_position_is_noticed() -> None:
    """The comparison above would see a decoder whose rotation is off."""
    shape = SHAPES["llama"]
    other = _greedy(replace(shape, interleaved=True), PROMPTS[0])
    assert other != _greedy(shape, PROMPTS[0])
