"""Nets of coverage.py that are models of transformers: small configurations, random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import transformers as hf
from _nets import Net, Outputs, Traced, dynamo, scripted

_VOCABULARY = 512
_WIDTH = 64
_LAYERS = 2
_HEADS = 4


def _images(batches: tuple[int, int], sides: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(b, 3, s, s) for b, s in zip(batches, sides, strict=True))  # type: ignore[return-value]


def _vision(
    model: str, config: str, outputs: Iterable[str], sides: tuple[int, int] = (64, 96), **fields: Any
) -> Callable[[], Traced]:
    """Images of two sizes, or two batches where a model takes one size."""

    def make() -> Traced:
        module = getattr(hf, model)(getattr(hf, config)(**fields))
        batches = (2, 3) if sides[0] == sides[1] else (1, 1)
        small, large = _images(batches, sides)
        return Traced(
            Outputs(module, ["pixel_values"], outputs), {"pixel_values": small}, {"pixel_values": large}
        )

    return make


def _texts(model: str, config: str, outputs: Iterable[str], **fields: Any) -> Callable[[], Traced]:
    def make() -> Traced:
        module = getattr(hf, model)(getattr(hf, config)(**fields))
        names = ["input_ids", "attention_mask"]
        wrapped = Outputs(
            module, names, outputs, **({"use_cache": False} if "Causal" in model or "LMHead" in model else {})
        )
        return Traced(wrapped, _text(2, 12), _text(3, 20))

    return make


def _text(
    batch: int, length: int, names: tuple[str, str] = ("input_ids", "attention_mask")
) -> dict[str, torch.Tensor]:
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[-1, length - length // 4 :] = 0
    return {names[0]: torch.randint(5, _VOCABULARY, (batch, length)), names[1]: mask}


def _sounds(model: str, config: str, **fields: Any) -> Callable[[], Traced]:
    def make() -> Traced:
        module = getattr(hf, model)(getattr(hf, config)(**fields))
        wave = {"small": torch.randn(2, 4000), "large": torch.randn(3, 6400)}
        wrapped = Outputs(module, ["input_values"], ["logits"])
        return Traced(wrapped, {"input_values": wave["small"]}, {"input_values": wave["large"]})

    return make


def _whisper() -> Traced:
    config = hf.WhisperConfig(
        d_model=_WIDTH,
        encoder_layers=_LAYERS,
        decoder_layers=1,
        encoder_attention_heads=_HEADS,
        decoder_attention_heads=_HEADS,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        vocab_size=_VOCABULARY,
        max_source_positions=100,
        num_mel_bins=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    encoder = hf.WhisperModel(config).get_encoder()
    wrapped = Outputs(encoder, ["input_features"], ["last_hidden_state"])
    return Traced(
        wrapped, {"input_features": torch.randn(2, 20, 200)}, {"input_features": torch.randn(3, 20, 200)}
    )


def _pairs(model: str, config: str, **fields: Any) -> Callable[[], Traced]:
    """An encoder-decoder, both halves in one graph."""

    def make() -> Traced:
        module = getattr(hf, model)(getattr(hf, config)(**fields))
        names = ["input_ids", "attention_mask", "decoder_input_ids"]
        wrapped = Outputs(module, names, ["logits"], use_cache=False)
        small = _text(2, 12) | {"decoder_input_ids": torch.randint(5, _VOCABULARY, (2, 6))}
        large = _text(3, 20) | {"decoder_input_ids": torch.randint(5, _VOCABULARY, (3, 9))}
        return Traced(wrapped, small, large)

    return make


def _two_towers(model: str, config: str) -> Callable[[], Traced]:
    text = {
        "hidden_size": _WIDTH,
        "intermediate_size": 128,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "vocab_size": _VOCABULARY,
        "max_position_embeddings": 32,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "projection_size": _WIDTH,
    }
    vision = {
        "hidden_size": _WIDTH,
        "intermediate_size": 128,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "image_size": 32,
        "patch_size": 8,
        "projection_size": _WIDTH,
    }

    def make() -> Traced:
        module = getattr(hf, model)(getattr(hf, config)(text_config=text, vision_config=vision))
        names = ["input_ids", "attention_mask", "pixel_values"]
        wrapped = Outputs(module, names, ["logits_per_image"])
        small = _text(2, 12) | {"pixel_values": torch.randn(4, 3, 32, 32)}
        large = _text(3, 20) | {"pixel_values": torch.randn(5, 3, 32, 32)}
        return Traced(wrapped, small, large)

    return make


_ENCODER = {
    "vocab_size": _VOCABULARY,
    "hidden_size": _WIDTH,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
_PATCHES = {
    "hidden_size": _WIDTH,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
_WAVES = {
    "vocab_size": 32,
    "hidden_size": _WIDTH,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "intermediate_size": 128,
    "conv_dim": (32, 32, 32),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 4, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_STAGES = {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]}
_DECODER = {
    "vocab_size": _VOCABULARY,
    "hidden_size": _WIDTH,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
_LOGITS = ("logits",)
_STATES = ("last_hidden_state",)


def _detr() -> Traced:
    backbone = hf.ResNetConfig(**_STAGES, layer_type="basic", out_features=["stage4"])
    config = hf.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=_WIDTH,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=_HEADS,
        decoder_attention_heads=_HEADS,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        num_queries=8,
        num_labels=5,
    )
    small, large = _images((1, 1), (64, 96))
    wrapped = Outputs(hf.DetrForObjectDetection(config), ["pixel_values"], ["logits", "pred_boxes"])
    return Traced(wrapped, {"pixel_values": small}, {"pixel_values": large})


NETS: tuple[Net, ...] = (
    dynamo(
        "resnet", "ResNet", 18, _vision("ResNetForImageClassification", "ResNetConfig", _LOGITS, **_STAGES)
    ),
    dynamo(
        "convnext",
        "ConvNeXT",
        20,
        _vision(
            "ConvNextForImageClassification",
            "ConvNextConfig",
            _LOGITS,
            hidden_sizes=[16, 32, 48, 64],
            depths=[1, 1, 2, 1],
        ),
    ),
    scripted(
        "mobilenet-v2",
        "MobileNet",
        13,
        _vision(
            "MobileNetV2ForImageClassification",
            "MobileNetV2Config",
            _LOGITS,
            depth_multiplier=0.35,
            image_size=64,
        ),
    ),
    dynamo(
        "mobilevit",
        "MobileViT",
        18,
        _vision(
            "MobileViTForImageClassification",
            "MobileViTConfig",
            _LOGITS,
            (64, 64),
            image_size=64,
            hidden_sizes=[32, 40, 48],
            neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 64],
        ),
    ),
    scripted(
        "regnet",
        "RegNet",
        17,
        _vision(
            "RegNetForImageClassification",
            "RegNetConfig",
            _LOGITS,
            embedding_size=16,
            hidden_sizes=[16, 32, 48, 64],
            depths=[1, 1, 2, 1],
            groups_width=8,
        ),
    ),
    scripted(
        "efficientnet",
        "EfficientNet",
        14,
        _vision(
            "EfficientNetForImageClassification",
            "EfficientNetConfig",
            _LOGITS,
            width_coefficient=0.25,
            depth_coefficient=0.25,
            image_size=64,
            hidden_dim=320,
        ),
    ),
    dynamo(
        "vit", "ViT", 18, _vision("ViTForImageClassification", "ViTConfig", _LOGITS, (32, 32), **_PATCHES)
    ),
    scripted(
        "deit", "ViT", 14, _vision("DeiTForImageClassification", "DeiTConfig", _LOGITS, (32, 32), **_PATCHES)
    ),
    dynamo(
        "beit",
        "BEiT",
        20,
        _vision(
            "BeitForImageClassification",
            "BeitConfig",
            _LOGITS,
            (32, 32),
            **_PATCHES,
            use_relative_position_bias=True,
        ),
    ),
    dynamo(
        "swin",
        "Swin",
        18,
        _vision(
            "SwinForImageClassification",
            "SwinConfig",
            _LOGITS,
            (64, 64),
            image_size=64,
            patch_size=4,
            embed_dim=16,
            depths=[2, 2],
            num_heads=[2, 4],
            window_size=4,
        ),
    ),
    scripted(
        "segformer",
        "SegFormer",
        17,
        _vision(
            "SegformerForSemanticSegmentation",
            "SegformerConfig",
            _LOGITS,
            depths=[1, 1, 1, 1],
            hidden_sizes=[16, 32, 48, 64],
            decoder_hidden_size=64,
        ),
    ),
    scripted("detr", "DETR", 16, _detr),
    dynamo(
        "yolos",
        "YOLOS",
        18,
        _vision(
            "YolosForObjectDetection",
            "YolosConfig",
            ("logits", "pred_boxes"),
            (32, 32),
            **(_PATCHES | {"image_size": [32, 32]}),
            num_detection_tokens=6,
        ),
    ),
    dynamo(
        "dpt",
        "DPT",
        18,
        _vision(
            "DPTForDepthEstimation",
            "DPTConfig",
            ("predicted_depth",),
            (32, 32),
            **(_PATCHES | {"num_hidden_layers": 4}),
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[16, 24, 32, 48],
            fusion_hidden_size=32,
            is_hybrid=False,
        ),
    ),
    dynamo("wav2vec2-ctc", "Wav2Vec2", 18, _sounds("Wav2Vec2ForCTC", "Wav2Vec2Config", **_WAVES)),
    dynamo("hubert-ctc", "HuBERT", 20, _sounds("HubertForCTC", "HubertConfig", **_WAVES)),
    dynamo("whisper-encoder", "Whisper", 18, _whisper),
    scripted("bert", "BERT", 14, _texts("BertModel", "BertConfig", _STATES, **_ENCODER)),
    dynamo(
        "distilbert",
        "BERT",
        18,
        _texts(
            "DistilBertForSequenceClassification",
            "DistilBertConfig",
            _LOGITS,
            vocab_size=_VOCABULARY,
            dim=_WIDTH,
            n_layers=_LAYERS,
            n_heads=_HEADS,
            hidden_dim=128,
            max_position_embeddings=64,
        ),
    ),
    dynamo(
        "roberta", "BERT", 23, _texts("RobertaForTokenClassification", "RobertaConfig", _LOGITS, **_ENCODER)
    ),
    dynamo(
        "albert", "ALBERT", 18, _texts("AlbertModel", "AlbertConfig", _STATES, **_ENCODER, embedding_size=32)
    ),
    dynamo(
        "electra", "BERT", 21, _texts("ElectraModel", "ElectraConfig", _STATES, **_ENCODER, embedding_size=32)
    ),
    dynamo(
        "deberta-v2",
        "DeBERTa",
        18,
        _texts(
            "DebertaV2Model",
            "DebertaV2Config",
            _STATES,
            **_ENCODER,
            relative_attention=True,
            pos_att_type="p2c|c2p",
            position_buckets=16,
        ),
    ),
    dynamo("mpnet", "MPNet", 18, _texts("MPNetModel", "MPNetConfig", _STATES, **_ENCODER)),
    dynamo(
        "gpt2",
        "GPT-2",
        18,
        _texts(
            "GPT2LMHeadModel",
            "GPT2Config",
            _LOGITS,
            vocab_size=_VOCABULARY,
            n_embd=_WIDTH,
            n_layer=_LAYERS,
            n_head=_HEADS,
            n_positions=64,
            bos_token_id=1,
            eos_token_id=2,
        ),
    ),
    dynamo("llama", "Llama", 18, _texts("LlamaForCausalLM", "LlamaConfig", _LOGITS, **_DECODER)),
    dynamo("qwen3", "Qwen", 21, _texts("Qwen3ForCausalLM", "Qwen3Config", _LOGITS, **_DECODER, head_dim=16)),
    dynamo(
        "t5",
        "T5",
        18,
        _pairs(
            "T5ForConditionalGeneration",
            "T5Config",
            vocab_size=_VOCABULARY,
            d_model=_WIDTH,
            d_kv=16,
            d_ff=128,
            num_layers=_LAYERS,
            num_heads=_HEADS,
            decoder_start_token_id=0,
        ),
    ),
    dynamo(
        "bart",
        "BART",
        18,
        _pairs(
            "BartForConditionalGeneration",
            "BartConfig",
            vocab_size=_VOCABULARY,
            d_model=_WIDTH,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=_HEADS,
            decoder_attention_heads=_HEADS,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_position_embeddings=64,
        ),
    ),
    dynamo("clip", "CLIP", 18, _two_towers("CLIPModel", "CLIPConfig")),
    dynamo("siglip", "SigLIP", 20, _two_towers("SiglipModel", "SiglipConfig")),
)
