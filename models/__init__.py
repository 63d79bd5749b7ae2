"""The built-in model families, and the embedded model."""

from __future__ import annotations

from pathlib import Path

from graphopt.plugins import Pack

from .causal_lm import CausalLM
from .encoder import Encoder
from .image_classifier import ImageClassifier, ImageEncoder
from .image_text import ImageText
from .seq2seq import Seq2Seq

PACK = Pack(
    families=(CausalLM, Seq2Seq, ImageText, Encoder, ImageClassifier, ImageEncoder),
    models={"tiny-coder": Path(__file__).parent / "tiny_coder"},
)
