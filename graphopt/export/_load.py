"""Models with their weights, in float32, for reference and for what cannot be exported without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.export._environment import quiet, require_exporter
from graphopt.ir import SafetensorsIndex

__all__ = ["load_torch_model"]


def load_torch_model(folder: Path, auto_class: str, *, trust_remote_code: bool = False) -> Any:
    """The model in `folder`, as the transformers Auto class of that name builds it, in float32 on the CPU.

    Raises `BadInput` for weights that are missing, of the wrong shape, or pickled.
    """
    require_exporter()
    SafetensorsIndex(folder)
    import torch
    import transformers

    with quiet():
        try:
            model, found = getattr(transformers, auto_class).from_pretrained(
                folder,
                dtype=torch.float32,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise BadInput(f"{folder} cannot be loaded by PyTorch: {_first_line(error)}") from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise BadInput(
            f"the checkpoint in {folder} lacks weights of {type(model).__name__}: {', '.join(missing[:4])}",
            hint="It was saved from a model for another task; choose that one with --task.",
        )
    return model.eval()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
