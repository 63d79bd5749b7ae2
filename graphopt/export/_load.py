"""Models with their weights, in float32, for reference and for what cannot be exported without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.export._config import forget_quantization, load_config
from graphopt.export._convert import converted
from graphopt.export._environment import quiet, require_exporter
from graphopt.export._pooler import NO_POOLER, lacks_pooler
from graphopt.export._quantized import Checkpoint, open_checkpoint, turn_as_stored
from graphopt.export._whole import left_out
from graphopt.importers import Imported
from graphopt.ir import SafetensorsIndex

__all__ = ["load_torch_model"]


def load_torch_model(folder: Path, auto_class: str, *, trust_remote_code: bool = False) -> Any:
    """The model in `folder`, as the transformers Auto class of that name builds it, in float32 on the CPU.

    A pooler that the checkpoint lacks is left out. Weights that are quantized are those that their integers
    stand for. Raises `BadInput` for weights that are missing, of the wrong shape, pickled or quantized in a
    way that is not read, and for tensors that the model has no place for.
    """
    require_exporter()
    checkpoint = open_checkpoint(folder)
    if not isinstance(checkpoint, SafetensorsIndex):
        return _filled(folder, checkpoint, auto_class, trust_remote_code)
    import torch
    import transformers

    def load(**options: Any) -> Any:
        return getattr(transformers, auto_class).from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )

    with quiet():
        try:
            model, info = load()
            if lacks_pooler(model, checkpoint):
                model, info = load(**NO_POOLER)
        except (RuntimeError, ValueError, OSError) as error:
            raise BadInput(f"{folder} cannot be loaded by PyTorch: {_first_line(error)}") from error
    left_out(model, checkpoint)
    missing = sorted(info["missing_keys"])
    if missing:
        raise BadInput(
            f"the checkpoint in {folder} lacks weights of {type(model).__name__}: {', '.join(missing[:4])}",
            hint="It was saved from a model for another task; choose that one with --task.",
        )
    return model.eval()


def _filled(folder: Path, checkpoint: Checkpoint, auto_class: str, trust: bool) -> Any:
    """The model with weights out of `checkpoint`, by their names."""
    import torch
    import transformers

    config = load_config(folder, trust_remote_code=trust)
    forget_quantization(config)
    with quiet():
        made = getattr(transformers, auto_class).from_config(
            config, dtype=torch.float32, trust_remote_code=trust
        )
    if isinstance(checkpoint, Imported):
        turn_as_stored(made, checkpoint)
    left_out(made, checkpoint)
    stored = converted(made, checkpoint)
    missing = []
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name not in stored:
                missing.append(name)
                continue
            parameter.copy_(torch.from_numpy(np.array(stored[name].read(), np.float32)))
    if missing:
        raise BadInput(f"{folder} lacks weights of {type(made).__name__}: {', '.join(missing[:4])}")
    made.tie_weights()
    return made.eval()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
