"""Which model types transformers has, and in which order they are tried: well-known ones first."""

from __future__ import annotations

from typing import NamedTuple

from transformers.models.auto import modeling_auto


class Task(NamedTuple):
    """A map of transformers: graphopt's task (None: it has none), and the Auto class for its models."""

    task: str | None
    auto: str
    title: str
    types: dict[str, str]


TASKS: dict[str, Task] = {
    "causal": Task(
        "text-generation",
        "AutoModelForCausalLM",
        "Causal language models",
        dict(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    ),
    "masked": Task(
        "fill-mask",
        "AutoModelForMaskedLM",
        "Masked language models",
        dict(modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    ),
    "seq2seq": Task(
        "text2text-generation",
        "AutoModelForSeq2SeqLM",
        "Sequence-to-sequence models",
        dict(modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    ),
}

_FIRST = """
llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 olmo2 granite starcoder2 gpt2 gpt_neo gptj
falcon cohere glm mixtral qwen2_moe qwen3_moe olmoe gpt_oss smollm3 gpt_neox opt bloom mpt stablelm olmo3
codegen helium deepseek_v2 deepseek_v3 exaone4 ernie4_5 bert roberta distilbert modernbert albert
t5 bart mt5 marian mbart pegasus m2m_100
"""


def ordered(which: str) -> list[str]:
    """The types of a map, the well-known first."""
    known = TASKS[which].types
    return list(dict.fromkeys([t for t in _FIRST.split() if t in known] + list(known)))
