"""genai_config.json: what onnxruntime-genai needs to generate text with the package's graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphopt.families import PackageContext
from graphopt.interface import TensorSpec
from graphopt.runtime import GenerationConfig

from ._state import State, with_states

_SEARCH = (
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_length",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "length_penalty",
)
_RESTARTING = ("phi3", "phi4_multimodal", "phimoe")
"""Models that transformers lets read a text again when it grows past what their short RoPE was made for."""
_PAST = r"past_key_values\.\d+\.(key|value)"
_FIXED = {"conv_state": "conv", "recurrent_state": "recurrent"}
"""States of one size at any length, and what the settings call them."""
_LEFT = (
    "onnxruntime-genai pads batches on the right, where this model's state runs over the padding: "
    "give it prompts of one length"
)


_LONG = (
    "a text that grows past {} tokens is read again with other rotary frequencies, by `graphopt run` as by "
    "transformers; onnxruntime-genai goes on with the keys that it has, and says something else from there"
)


def write_genai_config(
    source: Path, config: Mapping[str, Any], staging: Path, context: PackageContext
) -> list[str]:
    """Write `staging`/genai_config.json for the graph that `context` describes; what the user should know.

    Model type "decoder" stands for any decoder-only model: genai refuses families it does not name. Token
    ids and search defaults come from the source's generation_config.json, else its config.json.
    """
    past, states = context.interface.matching(_PAST), with_states(context.interface)
    unknown = {state.kind for state in states} - {"key", "value", *_FIXED}
    if unknown or not past:
        what = (
            f"it takes no {', '.join(sorted(unknown))}"
            if unknown
            else "it needs a layer with keys and values"
        )
        return [f"onnxruntime-genai cannot run this model: {what}"]
    if len({(spec.dims[1], spec.dims[3]) for spec in past}) != 1:
        return ["onnxruntime-genai cannot run this model: its layers have caches of different sizes"]
    generation = GenerationConfig.of(source, "generation_config.json").model_dump()
    ids = _token_ids(config, generation)
    context_length = context_length_of(config)
    settings = {
        "model": {
            "type": "decoder",
            **ids,
            "context_length": context_length,
            "vocab_size": config["vocab_size"],
            "decoder": _decoder(config, context, states, past[0]),
        },
        "search": {
            "max_length": context_length,
            "past_present_share_buffer": context.share_buffer,
            **{key: generation[key] for key in _SEARCH if generation.get(key) is not None},
        },
    }
    restart_at = restart_at_of(config)
    if restart_at is not None:
        settings["graphopt"] = {"restart_at": restart_at}
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (staging / "genai_config.json").write_text(text, encoding="utf-8")
    notes = [_LEFT] if any(state.kind in _FIXED for state in states) else []
    if restart_at is not None:
        notes.append(_LONG.format(restart_at))
    return notes


def _decoder(
    config: Mapping[str, Any], context: PackageContext, states: Sequence[State], keys: TensorSpec
) -> dict[str, Any]:
    """What genai is told of the graph; `keys` is one of its caches [batch, heads, past, head size]."""
    fixed = {kind: name for kind, name in _FIXED.items() if any(state.kind == kind for state in states)}
    return {
        "filename": context.file,
        "hidden_size": config["hidden_size"],
        "num_hidden_layers": 1 + max(state.layer for state in states),
        "num_attention_heads": config["num_attention_heads"],
        "num_key_value_heads": keys.dims[1],
        "head_size": keys.dims[3],
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "inputs": _inputs(context)
        | {f"past_{name}_names": f"past_key_values.%d.{kind}" for kind, name in fixed.items()},
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
            **{f"present_{name}_names": f"present.%d.{kind}" for kind, name in fixed.items()},
        },
    }


def restart_at_of(config: Mapping[str, Any]) -> int | None:
    """The length past which a text is read again with other rotary frequencies; None where there are none."""
    rope = config.get("rope_parameters") or {}
    if config.get("model_type") not in _RESTARTING or rope.get("rope_type") != "longrope":
        return None
    length = int(rope["original_max_position_embeddings"])
    return length if length < context_length_of(config) else None


def context_length_of(config: Mapping[str, Any]) -> int:
    """The longest text, in tokens, that the model was made for."""
    return int(config.get("max_position_embeddings") or 2048)


def _inputs(context: PackageContext) -> dict[str, str]:
    named: list[TensorSpec | None] = [
        context.interface.input(n) for n in ("input_ids", "attention_mask", "position_ids")
    ]
    return {spec.name: spec.name for spec in named if spec is not None} | {
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }


def _token_ids(config: Mapping[str, Any], generation: Mapping[str, Any]) -> dict[str, int | list[int]]:
    def given(key: str) -> Any:
        return generation[key] if generation.get(key) is not None else config.get(key)

    ids = {key: given(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    first_end = ids["eos_token_id"][0] if isinstance(ids["eos_token_id"], list) else ids["eos_token_id"]
    if ids["pad_token_id"] is None or ids["pad_token_id"] < 0:
        ids["pad_token_id"] = first_end
    return {key: value for key, value in ids.items() if value is not None}
