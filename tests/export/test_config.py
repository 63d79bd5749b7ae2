"""Reading a model's configuration and finding out what it is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from graphopt.errors import BadInput
from graphopt.export import quiet
from graphopt.export._config import as_dict, choose_family, load_config, refuse_rotation_by_length


def write(folder: Path, **fields: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize(
    ("architecture", "model_type", "family", "task"),
    [
        ("LlamaForCausalLM", "llama", "causal-lm", "text-generation"),
        ("GPT2LMHeadModel", "gpt2", "causal-lm", "text-generation"),
        ("BertModel", "bert", "encoder", "feature-extraction"),
        ("RobertaForMaskedLM", "roberta", "encoder", "fill-mask"),
        ("BertForSequenceClassification", "bert", "encoder", "text-classification"),
        ("DistilBertForTokenClassification", "distilbert", "encoder", "token-classification"),
        ("BertForQuestionAnswering", "bert", "encoder", "question-answering"),
        ("BartForConditionalGeneration", "bart", "seq2seq", "text2text-generation"),
        ("ViTForImageClassification", "vit", "image-classifier", "image-classification"),
        ("CLIPForImageClassification", "clip", "image-classifier", "image-classification"),
        ("ViTModel", "vit", "image-encoder", "feature-extraction"),
        ("CLIPVisionModel", "clip_vision_model", "image-encoder", "feature-extraction"),
        ("CLIPTextModel", "clip_text_model", "encoder", "feature-extraction"),
        ("CLIPModel", "clip", "image-text", "zero-shot-image-classification"),
        ("YolosForObjectDetection", "yolos", "object-detector", "object-detection"),
        ("SegformerForSemanticSegmentation", "segformer", "segmenter", "image-segmentation"),
        ("DPTForDepthEstimation", "dpt", "depth-estimator", "depth-estimation"),
        ("Wav2Vec2ForCTC", "wav2vec2", "speech-ctc", "automatic-speech-recognition"),
        ("WhisperForConditionalGeneration", "whisper", "seq2seq", "automatic-speech-recognition"),
        ("BartForSequenceClassification", "bart", "pair-classifier", "text-classification"),
    ],
)
def test_the_architecture_tells_the_task(
    tmp_path: Path, architecture: str, model_type: str, family: str, task: str
) -> None:
    config = load_config(write(tmp_path, model_type=model_type, architectures=[architecture]))
    chosen, found = choose_family(config, "auto")
    assert (chosen.name, found) == (family, task)


def test_a_task_can_be_chosen(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, model_type="bert", architectures=["BertForMaskedLM"]))
    assert choose_family(config, "feature-extraction")[1] == "feature-extraction"


def test_a_task_the_model_has_no_class_for(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, model_type="vit", architectures=["ViTForImageClassification"]))
    with pytest.raises(BadInput, match="ViTForImageClassification cannot be exported for text-generation"):
        choose_family(config, "text-generation")


def test_a_misspelt_task_gets_the_nearest_name(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, model_type="llama", architectures=["LlamaForCausalLM"]))
    with pytest.raises(BadInput, match="Did you mean 'text-generation'"):
        choose_family(config, "text-generatoin")


def test_a_configuration_that_does_not_say_what_it_is_for(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, model_type="bert"))
    with pytest.raises(BadInput, match="Pass --task"):
        choose_family(config, "auto")


def test_an_architecture_no_family_covers_is_named(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, model_type="wav2vec2", architectures=["Wav2Vec2ForXVector"]))
    with pytest.raises(BadInput, match="Wav2Vec2ForXVector"):
        choose_family(config, "auto")


def test_an_architecture_transformers_does_not_know_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, model_type="nonesuch", architectures=["NonesuchForCausalLM"])
    with pytest.raises(BadInput, match="does not know architecture NonesuchForCausalLM"):
        load_config(folder)


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "configuration_own.py").write_text("raise SystemExit('the code was run')\n")
    folder = write(
        tmp_path,
        model_type="own",
        architectures=["OwnForCausalLM"],
        auto_map={"AutoConfig": "configuration_own.OwnConfig"},
    )
    with pytest.raises(BadInput, match="--trust-remote-code"):
        load_config(folder)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_configuration_that_is_no_json_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match="JSON"):
        load_config(tmp_path)


def test_fields_have_their_common_names() -> None:
    fields = as_dict(transformers.GPT2Config(n_embd=48, n_head=3, n_positions=77))
    assert (fields["hidden_size"], fields["num_attention_heads"], fields["max_position_embeddings"]) == (
        48,
        3,
        77,
    )
    assert fields["model_type"] == "gpt2"


def test_an_encoder_decoder_fills_masks_if_it_is_asked_to(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, model_type="bart", architectures=["BartForConditionalGeneration"]))
    assert choose_family(config, "fill-mask")[0].name == "encoder"


@pytest.mark.parametrize("nested", [False, True])
def test_frequencies_that_follow_the_length_of_a_call_are_refused(nested: bool) -> None:
    rope: dict[str, Any] = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    config = transformers.LlamaConfig(max_position_embeddings=77, architectures=["LlamaForCausalLM"])
    config.rope_parameters = {"full_attention": rope} if nested else rope
    with pytest.raises(
        BadInput, match=r"LlamaForCausalLM turns .*'dynamic'(.|\n)*Up to 77 positions .*'default'"
    ):
        refuse_rotation_by_length(config)
    refuse_rotation_by_length(transformers.LlamaConfig())
    refuse_rotation_by_length(transformers.BertConfig())


def test_up_to_the_end_of_the_table_they_are_the_usual_ones(tiny_model: Callable[..., Path]) -> None:
    """As the refusal says."""

    def logits(rope_type: str, length: int) -> torch.Tensor:
        rope = {"rope_type": rope_type, "factor": 2.0, "rope_theta": 1e4}
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model("llama"), rope_parameters=rope)
        with torch.no_grad():
            return model(torch.arange(length)[None]).logits

    with quiet():
        assert torch.equal(logits("default", 128), logits("dynamic", 128))
        assert not torch.equal(logits("default", 129), logits("dynamic", 129))
