"""Models with their weights, in float32, for reference and for what cannot be exported without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.export._environment import quiet, require_exporter
from graphopt.export._pooler import NO_POOLER, lacks_pooler
from graphopt.export._quantized import refuse_quantized
from graphopt.export._whole import left_out
from graphopt.ir import SafetensorsIndex

__all__ = ["load_torch_model"]


def load_torch_model(folder: Path, auto_class: str, *, trust_remote_code: bool = False) -> Any:
    """The model in `folder`, as the transformers Auto class of that name builds it, in float32 on the CPU.

    A pooler that the checkpoint lacks is left out. Raises `BadInput` for weights that are missing, of the
    wrong shape, pickled or quantized, and for tensors that the model has no place for.
    """
    require_exporter()
    refuse_quantized(folder)
    checkpoint = SafetensorsIndex(folder)
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


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
