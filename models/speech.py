"""Models that read speech as a wave and give each moment of it a letter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.export import load_torch_model
from graphopt.families import Case, ExportInputs, Family, InputDomain, PackageContext, Padding, Reference
from graphopt.interface import Interface

from ._files import copy_config, copy_processor, copy_tokenizer
from ._reference import PlainReference
from ._text_domain import mask_of

WAVE, MASK = "input_values", "attention_mask"
BATCH = 2
_SAMPLE = 4321
"""Samples of the sample call: a number that no sum or product of strides is."""


class SpeechCtc(Family):
    """Recognizers of speech by connectionist temporal classification (Graves et al. 2006): Wav2Vec2, HuBERT,
    WavLM and what else reads waves.

    The graph takes `input_values` float32[batch, samples], 16,000 of them a second as a rule, normalized as
    the model's feature extractor does, and where the model was trained with it (`feat_extract_norm` "layer")
    `attention_mask` int64[batch, samples], padded on the right; it gives `logits` float32[batch, frames,
    vocabulary]. Without a mask rows of a batch are equally long.
    """

    name = "speech-ctc"
    tasks = ("automatic-speech-recognition",)

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        return bool(config.get("conv_kernel")) and bool(config.get("conv_stride"))

    def model_class(self, task: str) -> str:
        return "AutoModelForCTC"

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        import torch

        tensors = {WAVE: torch.zeros(BATCH, _SAMPLE, device=model.device)}
        if getattr(model.config, "feat_extract_norm", "group") == "layer":
            mask = torch.ones(BATCH, _SAMPLE, dtype=torch.int64, device=model.device)
            mask[0, -1] = 0
            tensors[MASK] = mask
        return ExportInputs(
            tensors,
            dict.fromkeys(tensors, ("batch", "samples")),
            ("logits",),
            forward=partial(_logits, model.forward),
        )

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return _WaveDomain(interface, config)

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        model = load_torch_model(source_dir, self.model_class(task), trust_remote_code=trust_remote_code)
        return PlainReference(model, ["logits"], {})

    def package_files(
        self, source_dir: Path, config: Mapping[str, Any], staging: Path, context: PackageContext
    ) -> list[str]:
        copy_tokenizer(source_dir, staging)
        copy_processor(source_dir, staging)
        copy_config(source_dir, staging)
        return []


def _logits(call: Any, **tensors: Any) -> tuple[Any, ...]:
    return (call(**tensors, return_dict=True).logits,)


class _WaveDomain(InputDomain):
    """Waves of any length, padded on the right where there is a mask; what it gives for padding is
    unspecified."""

    def __init__(self, interface: Interface, config: Mapping[str, Any]) -> None:
        self.interface, self._config = interface, config

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        yield self._case(rng, "one", [6400])
        yield self._case(rng, "odd", [5123, 5123])
        yield self._case(rng, "batch", [4000] * 3)
        if self.interface.input(MASK) is not None:
            yield self._case(rng, "right-padded", [2800, 5600, 4321], "right")

    def _case(
        self, rng: np.random.Generator, name: str, lengths: Sequence[int], padding: Padding = "none"
    ) -> Case:
        mask = mask_of(lengths, max(lengths), "right")
        made = {
            WAVE: rng.standard_normal(mask.shape).astype(np.float32) * mask.astype(np.float32),
            MASK: mask,
        }
        frames = [self._frames(length) for length in lengths]
        real = mask_of(frames, max(frames), "right")[:, :, None] != 0
        feeds = {spec.name: made[spec.name] for spec in self.interface.inputs}
        return Case(name, feeds, {spec.name: real for spec in self.interface.outputs}, padding)

    def _frames(self, samples: int) -> int:
        """How many moments the model's convolutions make of so many samples."""
        kernels, strides = self._config["conv_kernel"], self._config["conv_stride"]
        for kernel, stride in zip(kernels, strides, strict=True):
            samples = (samples - kernel) // stride + 1
        if self._config.get("add_adapter"):
            for _ in range(self._config["num_adapter_layers"]):
                samples = (samples - 1) // self._config["adapter_stride"] + 1
        return samples
