"""Models that match images with texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.export import load_torch_model
from graphopt.families import Case, ExportInputs, Family, InputDomain, PackageContext, Reference
from graphopt.interface import Interface

from ._files import beyond_the_table, copy_config, copy_processor, copy_tokenizer
from ._image_domain import BATCH, draw_images, everywhere, sample_images
from ._reference import PlainReference
from ._text_domain import EDGE, TokenDomain, mask_of

_SEQUENCE = 7  # other than the sizes beside it, so that tracing does not take it for one
_TEXTS = BATCH + 1  # other than of images, so that tracing does not take them for the same
_LEGACY_END = 2  # what CLIP's first configurations said, where the largest token is meant
_OUTPUTS = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")


class ImageText(Family):
    """Two encoders whose embeddings are compared, as CLIP's and SigLIP's.

    The graph takes `pixel_values` float32[images, channels, height, width] and `input_ids` and
    `attention_mask` int64[texts, sequence], padded on the right, each text with its last token. It gives
    `logits_per_image` float32[images, texts], its transpose `logits_per_text`, and the normalized
    `text_embeds` float32[texts, size] and `image_embeds` float32[images, size].
    """

    name = "image-text"
    tasks = ("zero-shot-image-classification",)

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        return config.get("vocab_size") is not None and config.get("vision_config") is not None

    def model_class(self, task: str) -> str:
        return "AutoModelForZeroShotImageClassification"

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        import torch

        images = sample_images(model, "images")
        mask = torch.ones(_TEXTS, _SEQUENCE, dtype=torch.int64, device=model.device)
        mask[0, -1] = 0
        texts = {"input_ids": torch.ones_like(mask), "attention_mask": mask}
        dims = {**images.dims, **dict.fromkeys(texts, ("texts", "sequence"))}
        return ExportInputs({**images.kwargs, **texts}, dims, _OUTPUTS, forward=_traceable(model))

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return _ImagesAndTexts(interface, config)

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        model = load_torch_model(source_dir, self.model_class(task), trust_remote_code=trust_remote_code)
        return PlainReference(model, [spec.name for spec in interface.outputs], {})

    def package_files(
        self, source_dir: Path, config: Mapping[str, Any], staging: Path, context: PackageContext
    ) -> list[str]:
        copy_tokenizer(source_dir, staging)
        copy_processor(source_dir, staging)
        copy_config(source_dir, staging)
        return beyond_the_table(staging, config)


def _traceable(model: Any) -> Any:
    """The model's own call, that gives what the graph gives."""

    def forward(call: Any, **tensors: Any) -> tuple[Any, ...]:
        results = call(**tensors, return_dict=True)
        return tuple(results[name] for name in _OUTPUTS)

    return partial(forward, model.forward)


class _ImagesAndTexts(TokenDomain):
    """Any images, with texts padded on the right that end with the token their embedding is read at."""

    def __init__(self, interface: Interface, config: Mapping[str, Any]) -> None:
        super().__init__(interface, config)
        end = config.get("eos_token_id")
        # CLIP with the end token 2, which was a mistake, reads where the largest token is.
        self._end = end if isinstance(end, int) and end != _LEGACY_END else self._vocabulary - 1

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        yield self._case(rng, "one", 1, [8, 8])  # of which one fits better
        yield self._case(rng, "shortest", 2, [1])
        yield self._case(rng, "batch", 2, [6, 6, 6])
        yield self._case(rng, "right-padded", 3, [4, 9])

    def edges(self, rng: np.random.Generator) -> Iterator[Case]:
        yield self._case(rng, "every-right-padding", 1, list(range(1, EDGE + 1)))

    def longer(self, rng: np.random.Generator, length: int) -> Iterator[Case]:
        if length <= int(self._config.get("max_position_embeddings") or 0):
            yield self._case(rng, f"texts-of-{length}", 1, [length, length])

    def _case(self, rng: np.random.Generator, name: str, images: int, lengths: Sequence[int]) -> Case:
        mask = mask_of(lengths, max(lengths), "right")
        ids = self._tokens(rng, mask)
        ids[np.arange(len(lengths)), np.asarray(lengths) - 1] = self._end
        made = {"input_ids": ids, "attention_mask": mask}
        feeds = {
            spec.name: made[spec.name] if spec.name in made else draw_images(rng, spec, images)
            for spec in self.interface.inputs
        }
        return Case(name, feeds, everywhere(self.interface), "none" if mask.all() else "right")
