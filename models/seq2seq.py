"""Encoder-decoder models: two graphs, run one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.export import load_torch_model
from graphopt.families import ExportInputs, Family, InputDomain, PackageContext, Part, Reference
from graphopt.interface import Interface, Model, TensorSpec

from ._files import beyond_the_table, copy_config, copy_generation, copy_processor, copy_tokenizer
from ._reference import PlainReference
from ._seq2seq_domain import DECODER_TOKENS, MASK, TOKENS, WholeDomain
from ._seq2seq_parts import BATCH, CLASSES, SEQUENCE, SOURCE_MASK, Decoder, Encoder, sample

_PIECES = (2, 2)  # more than one token each: the first call without a past, and a chunk with one


class Seq2Seq(Family):
    """Encoder-decoder models of text, and of speech that comes as features of fixed length.

    Two graphs: `encoder` gives keys and values for every layer of `decoder`, under the names by which that
    takes them; see the parts. The whole takes the encoder's inputs and `decoder_input_ids` int64[batch,
    sequence], and gives `logits` float32[batch, sequence, vocabulary].
    """

    name = "seq2seq"
    tasks = tuple(CLASSES)

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        features = task == "automatic-speech-recognition"
        return bool(config.get("is_encoder_decoder")) and (not features or "num_mel_bins" in config)

    def model_class(self, task: str) -> str:
        return CLASSES[task]

    def parts(self, task: str) -> Mapping[str, Part]:
        return {"encoder": Encoder(), "decoder": Decoder()}

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        import torch

        tensors, dims = sample(model, task)
        tensors[DECODER_TOKENS] = torch.zeros(BATCH, SEQUENCE, dtype=torch.int64, device=model.device)
        dims[DECODER_TOKENS] = ("batch", "sequence")
        return ExportInputs({**tensors, "use_cache": False}, dims, ("logits",))

    def interface(self, parts: Mapping[str, Interface]) -> Interface:
        tokens = TensorSpec(DECODER_TOKENS, "int64", ("batch", "sequence"))
        logits = [spec for spec in parts["decoder"].outputs if spec.name == "logits"]
        return Interface((*parts["encoder"].inputs, tokens), tuple(logits))

    def joined(self, parts: Mapping[str, Model], interfaces: Mapping[str, Interface]) -> Model:
        """A prefix, a chunk and single tokens, one call of the decoder after the other."""
        decoder = interfaces["decoder"]
        states = Decoder().states(decoder)

        def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            tokens = feeds[DECODER_TOKENS]
            source = {name: array for name, array in feeds.items() if name != DECODER_TOKENS}
            state = dict(parts["encoder"](source))
            for spec in (spec for spec in decoder.inputs if spec.name in states):
                shape = [d if isinstance(d, int) else 0 if d == "past" else len(tokens) for d in spec.dims]
                state[spec.name] = np.zeros(shape, spec.dtype)
            if decoder.input(SOURCE_MASK) is not None:
                state[SOURCE_MASK] = source[MASK]
            logits = []
            for piece in np.split(tokens, _cuts(tokens.shape[1]), axis=1):
                results = parts["decoder"]({**state, TOKENS: piece})
                logits.append(results["logits"])
                state |= {past: results[present] for past, present in states.items()}
            return {"logits": np.concatenate(logits, axis=1)}

        return run

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return WholeDomain(interface, config)

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        model = load_torch_model(source_dir, CLASSES[task], trust_remote_code=trust_remote_code)
        return PlainReference(model, [spec.name for spec in interface.outputs], {"use_cache": False})

    def package_files(
        self, source_dir: Path, config: Mapping[str, Any], staging: Path, context: PackageContext
    ) -> list[str]:
        copy_tokenizer(source_dir, staging)
        copy_processor(source_dir, staging)
        copy_config(source_dir, staging)
        notes = copy_generation(source_dir, staging)
        return notes + beyond_the_table(staging, config)


def _cuts(length: int) -> list[int]:
    """Where a text of so many tokens is cut: two at first, a chunk of two, then one by one."""
    first = min(_PIECES[0], length)
    return [cut for cut in (first, *range(first + _PIECES[1], length)) if cut < length]
