"""Sizes of decoders, and what their families have that no size tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from graphopt.cost._package import LAYER
from graphopt.errors import BadInput
from graphopt.ir.operators import FUSED_SILU

__all__ = ["DecoderShape", "Experts", "Traits"]

_ACTIVATIONS = {"silu": FUSED_SILU, "gelu": "Gelu", "gelu_pytorch_tanh": "Gelu"}
_CHOSEN = ("longrope", "su")
"""The type of angles that are others for long texts than for short ones, and what it was called at first."""
_ROTATED = 16
"""What onnxruntime's attention rotates is a multiple of this (docs/decisions/grouped-query-attention.md)."""


@dataclass(frozen=True)
class Traits:
    """What decoders of a model type have.

    `head_norms` are of each head of queries and keys, before they are rotated. In `fused` ones queries, keys
    and values are one weight of the checkpoint, and so are both halves of a gate. `scaled` embeddings are
    multiplied by a number, norms that are `offset` by one more than their weight; what attention and the
    feed-forward give has a norm of its own where `own_norms` are. `qkv_bias` None: as the configuration says,
    and of what attention gives, too.

    Layers look back through a window where the configuration has one (`windows`: "given"), and asks for it,
    too ("asked"), or never ("none"): from a layer on that it names (`late`), or all but one of so many
    (`full_every`). Those that look at everything have other angles in `two_angles`. `tied` and `head_size`
    are what is meant where the configuration leaves it out, `experts` what it calls their width, if there are
    any, and `normalized` whether their shares are made to sum to one; None: as it says. `written` are bytes
    that are written about a layer: by hand, of packages of two.
    """

    activation: str = "silu"
    head_norms: bool = False
    fused: bool = False
    scaled: bool = False
    offset: bool = False
    own_norms: bool = False
    qkv_bias: bool | None = None
    windows: Literal["none", "given", "asked"] = "given"
    late: bool = False
    full_every: int = 0
    two_angles: bool = False
    tied: bool = False
    head_size: int | None = None
    experts: str = ""
    normalized: bool | None = None
    written: int = LAYER


_GEMMA = Traits(activation="gelu_pytorch_tanh", scaled=True, offset=True, tied=True, head_size=256)
TRAITS: Mapping[str, Traits] = {
    "llama": Traits(windows="none"),
    "mistral": Traits(qkv_bias=False),
    "qwen2": Traits(qkv_bias=True, windows="asked", late=True),
    "qwen3": Traits(head_norms=True, head_size=128, windows="asked", late=True, written=75_000),
    "phi3": Traits(fused=True, qkv_bias=False, written=95_000),
    "gemma": replace(_GEMMA, windows="none"),
    "gemma2": replace(_GEMMA, own_norms=True, full_every=2, written=131_000),
    "gemma3_text": replace(
        _GEMMA, own_norms=True, full_every=6, two_angles=True, head_norms=True, written=111_000
    ),
    "mixtral": Traits(qkv_bias=False, experts="intermediate_size", normalized=True, written=102_000),
    "qwen3_moe": Traits(head_norms=True, windows="asked", experts="moe_intermediate_size", written=110_000),
}


@dataclass(frozen=True)
class Experts:
    """So many feed-forwards of width `ffn`, of which each token goes through those `chosen`, in the `layers`
    that have them; their shares are `normalized` to sum to one, or do not."""

    count: int
    chosen: int
    ffn: int
    normalized: bool
    layers: tuple[bool, ...]


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a decoder: `layers` of grouped attention and a gated feed-forward of width `ffn`.

    `window` is how many tokens back each layer looks, 0 where all. Biases are of queries, keys and values,
    of what attention gives, and of the feed-forward, whose gate is the operator `activation`. Scores of
    tokens may be `capped`. `angles` are the names of each layer's: a name is a table. `chosen_angles` are
    others for long texts than for short ones, which leaves a constant more in fused feed-forwards.
    """

    vocabulary: int
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    positions: int
    tied: bool
    window: tuple[int, ...] = ()
    rotated: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    ffn_bias: bool = False
    activation: str = FUSED_SILU
    capped: bool = False
    chosen_angles: bool = False
    angles: tuple[str, ...] = ()
    traits: Traits = Traits()
    experts: Experts | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> DecoderShape:
        """Of a config.json as transformers writes it.

        Raises `BadInput` for a model type that is not known to be such a decoder, and for a size that is
        missing: export the model then, and ask `work_of` its graph.
        """
        kind = str(config.get("model_type"))
        traits = TRAITS.get(kind)
        if traits is None:
            raise BadInput(
                f"the sizes of a model of type {kind!r} are not read from its configuration",
                hint=f"Of {', '.join(TRAITS)} they are. Of others the exported graph tells.",
            )
        read = _Config(config)
        hidden, heads, layers = map(read.size, ("hidden_size", "num_attention_heads", "num_hidden_layers"))
        head = read.size("head_dim", default=traits.head_size or hidden // heads)
        kv_heads = read.size("num_key_value_heads", default=heads)
        if heads % kv_heads:
            raise BadInput(f"{heads} heads of queries do not share {kv_heads} of keys evenly")
        windows = _windows(config, traits, layers)
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        attention = bool(config.get("attention_bias", False))
        experts = _experts(read, traits, layers)
        return cls(
            vocabulary=read.size("vocab_size"),
            hidden=hidden,
            ffn=read.size("intermediate_size"),
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_size=head,
            positions=read.size("max_position_embeddings"),
            tied=bool(config.get("tie_word_embeddings", traits.tied)),
            window=windows,
            rotated=_rotated(head, config.get("partial_rotary_factor") or rope.get("partial_rotary_factor")),
            qkv_bias=attention if traits.qkv_bias is None else traits.qkv_bias,
            out_bias=attention and traits.qkv_bias is None,
            ffn_bias=bool(config.get("mlp_bias", False)),
            activation=_activation(config, traits, experts),
            capped=bool(config.get("final_logit_softcapping")),
            chosen_angles=(rope.get("rope_type") or rope.get("type")) in _CHOSEN,
            angles=tuple("local" if window and traits.two_angles else "" for window in windows),
            traits=traits,
            experts=experts,
        )


@dataclass(frozen=True)
class _Config:
    config: Mapping[str, Any]

    def size(self, *names: str, default: int | None = None) -> int:
        """The first of `names` that is there. Raises `BadInput` where it is no size."""
        config = self.config
        found = next((config[name] for name in names if config.get(name) is not None), default)
        if not isinstance(found, int) or isinstance(found, bool) or found < 1:
            raise BadInput(f"{names[0]} in the configuration is {found!r}, and no size")
        return found


def _rotated(head: int, share: float | None) -> int:
    rotated = int(head * float(share or 1.0))
    if head % _ROTATED or rotated % _ROTATED:
        raise BadInput(
            f"of heads of {head} {rotated} are rotated: attention does that itself in multiples of "
            f"{_ROTATED} only, and the sizes do not tell what the graph is else",
            hint="The exported graph tells.",
        )
    return rotated


def _activation(config: Mapping[str, Any], traits: Traits, experts: Experts | None) -> str:
    asked = config.get("hidden_activation") or config.get("hidden_act") or traits.activation
    known = list(_ACTIVATIONS) if experts is None else ["silu"]
    if asked not in known:
        raise BadInput(
            f"the activation {asked!r} in the configuration is none whose cost is known",
            hint=f"Of {', '.join(known)} it is. Of others the exported graph tells.",
        )
    return _ACTIVATIONS[asked]


def _windows(config: Mapping[str, Any], traits: Traits, layers: int) -> tuple[int, ...]:
    window = config.get("sliding_window") or 0
    if traits.windows == "none" or (traits.windows == "asked" and not config.get("use_sliding_window")):
        window = 0
    first = int(config.get("max_window_layers") or 0) if traits.late else 0
    each = int(config.get("sliding_window_pattern") or traits.full_every) if traits.full_every else 0
    slides = [layer >= first and not (each and (layer + 1) % each == 0) for layer in range(layers)]
    kinds = config.get("layer_types")
    if kinds and (traits.late or traits.full_every):
        slides = [kind == "sliding_attention" for kind in kinds]
    return tuple(window if slid else 0 for slid in slides)


def _experts(config: _Config, traits: Traits, layers: int) -> Experts | None:
    if not traits.experts:
        return None
    given = config.config
    dense, step = given.get("mlp_only_layers") or (), given.get("decoder_sparse_step") or 1
    return Experts(
        count=config.size("num_local_experts", "num_experts"),
        chosen=config.size("num_experts_per_tok"),
        ffn=config.size(traits.experts),
        normalized=bool(given.get("norm_topk_prob")) if traits.normalized is None else traits.normalized,
        layers=tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(layers)),
    )
