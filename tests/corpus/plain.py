"""Whether transformers' exporter alone can export a tiny model: `python -m tests.corpus.plain causal TYPE`.

No code of graphopt runs. The model is called as it is for generation, with its own cache, and then without a
cache; each as it is and with its attention spelled out. Prints the first way that works and exits with 0, or
every way's error and exits with 1.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.corpus._limits import allow
from tests.corpus._tiny import write_tiny

SECONDS = 120
Attempt = tuple[str, str, dict[str, Any]]


def attempts(model: Any) -> Iterator[Attempt]:
    """What to call the attempt, the attention, the arguments."""
    tokens, mask = torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64)
    mask[0, 0] = 0
    parameters = inspect.signature(type(model).forward).parameters
    answer = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    for attention in ("sdpa", "eager"):
        try:
            with torch.no_grad():
                results = model(input_ids=tokens, attention_mask=mask, use_cache=True, **answer)
            name = next(n for n in ("past_key_values", "cache_params", "state", "mems") if n in results)
            whole = torch.cat([mask, torch.ones_like(mask)], 1)
            whole = mask if answer else whole  # the source is no longer
            kwargs = {"input_ids": tokens, "attention_mask": whole, name: results[name], **answer}
            yield "with its cache", attention, kwargs | {"use_cache": True}
        except Exception as error:
            print(f"with its cache, {attention}: no cache: {_said(error)}")
    for attention in ("sdpa", "eager"):
        flags = {"use_cache": False} if "use_cache" in parameters else {}
        yield "without a cache", attention, {"input_ids": tokens, "attention_mask": mask} | flags | answer


def export(model: Any, attention: str, kwargs: dict[str, Any]) -> None:
    """Export with transformers' exporter, every axis that can vary left to it."""
    from transformers.exporters import OnnxConfig, OnnxExporter

    model.set_attn_implementation(attention)
    made = OnnxExporter().export(model, kwargs, OnnxConfig(dynamic=True, opset_version=23, optimize=False))
    tokens = next(value for value in made.program.graph.inputs if value.name == "input_ids")
    if isinstance(tokens.shape[1], int):
        raise ValueError(f"the graph is for sequences of {tokens.shape[1]} alone")


def main(which: str, model_type: str) -> int:
    """0 and the way that works, or 1."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    allow(SECONDS)
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        model = write_tiny(which, model_type, Path(folder))
    for way, attention, kwargs in attempts(model):
        if which == "masked" and way == "with its cache":
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                export(model, attention, kwargs)
        except Exception as error:
            print(f"{way}, {attention}: {_said(error)}")
        else:
            print(f"exported {way}, {attention}")
            return 0
    return 1


def _said(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
