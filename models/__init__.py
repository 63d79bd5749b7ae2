"""The built-in model families, and the embedded model."""

from __future__ import annotations

from pathlib import Path

from graphopt.plugins import Pack

from ._genai_rules import RULES
from .causal_lm import CausalLM
from .encoder import Encoder
from .image_classifier import ImageClassifier, ImageEncoder
from .image_tasks import DepthEstimator, ObjectDetector, Segmenter
from .image_text import ImageText
from .pair_classifier import PairClassifier
from .sentence import SentenceEncoder
from .seq2seq import Seq2Seq
from .speech import SpeechCtc

PACK = Pack(
    families=(
        *(CausalLM, Seq2Seq, ImageText, SentenceEncoder, Encoder, PairClassifier, SpeechCtc),
        *(ImageClassifier, ImageEncoder, ObjectDetector, Segmenter, DepthEstimator),
    ),
    models={"tiny-coder": Path(__file__).parent / "tiny_coder"},
    rules=RULES,
)
