"""Weights that are quantized already: who says so, and how they become plain ones, if they can.

What transformers (5.23) does was tried on the CPU with small models of each method. Saving in the original
format, its default, would write the 8-bit floats of `fp8` again, without the configuration that says so.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from graphopt.errors import BadInput
from graphopt.export._source import read_config_json
from graphopt.importers import GGUF_FILE, GgufCheckpoint, Imported, Reader, is_read, quantized_reader
from graphopt.io import read_json
from graphopt.ir import SafetensorsIndex

__all__ = ["Checkpoint", "open_checkpoint", "reader_for", "refuse_quantized", "turn_as_stored"]

Checkpoint = SafetensorsIndex | Imported | GgufCheckpoint

_KEYS = ("quantization_config", "compression_config")
_OLD_KEY = "compression_config"
_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")


class _Way(NamedTuple):
    """How transformers loads plain weights: what is passed, what called, and what must be installed."""

    options: str
    call: str
    needs: str


_WAYS = {
    "fp8": _Way(", quantization_config=t.FineGrainedFP8Config(dequantize=True)", "", "accelerate"),
    "mxfp4": _Way(", quantization_config=t.Mxfp4Config(dequantize=True)", "", ""),
    "compressed-tensors": _Way(
        ", quantization_config=t.CompressedTensorsConfig(dequantize=True)", "", "compressed-tensors"
    ),
    "bitsandbytes": _Way("", ".dequantize()", "bitsandbytes accelerate"),
}
_AGAIN = "Start from the unquantized model: graphopt quantizes it for the target itself."


def reader_for(folder: Path) -> Reader | None:
    """How the quantized weights in `folder` are read; None where nothing says that there are any.

    Raises `BadInput` for a method that is not read, with the way to plain weights, and for a damaged one.
    """
    said = [found for key, found in _said(read_config_json(folder)) if key != _OLD_KEY]
    beside = [folder / name for name in _FILES if (folder / name).is_file()]
    found = said[0] if said else read_json(beside[0]) if beside else None
    if found is not None and is_read(_method(found)):
        return quantized_reader(folder, _method(found), found)
    refuse_quantized(folder)
    return None


def open_checkpoint(folder: Path) -> Checkpoint:
    """The tensors of the model in `folder`, quantized weights as plain ones that keep their integers."""
    if (folder / GGUF_FILE).exists():
        return GgufCheckpoint(folder)
    reader = reader_for(folder)
    index = SafetensorsIndex(folder)
    return index if reader is None else Imported(index, reader)


def turn_as_stored(network: Any, checkpoint: Imported) -> None:
    """Turn the weights of layers of `network` that keep them as [in, out]: GPT-2's Conv1D."""
    from graphopt.export._convert import placed

    turned = {f"{name}.weight" for name, m in network.named_modules() if type(m).__name__ == "Conv1D"}
    for key, (name, _) in placed(network, checkpoint.weights).items():
        if name in turned:
            checkpoint.turn(key)


def refuse_quantized(folder: Path) -> None:
    """Raise `BadInput` if the config.json in `folder`, or a file beside it, says so."""
    config = read_config_json(folder)
    for key, found in _said(config):
        method = _method(found)
        if key == _OLD_KEY:
            raise BadInput(
                f"{folder} holds weights that are already quantized ({method}), as config.json says under "
                f"the old name {key!r}, which transformers passes over",
                hint=f"{_AGAIN} Where that is gone, give the entry its new name, 'quantization_config', with "
                "'quant_method': 'compressed-tensors' in it, and call this again.",
            )
        raise BadInput(
            f"{folder} holds weights that are already quantized ({method})", hint=_way(folder, config, method)
        )
    for name in _FILES:
        if (folder / name).is_file():
            raise BadInput(
                f"{folder} holds weights that are already quantized "
                f"({_method(read_json(folder / name))}), as {name} says, which transformers does not read",
                hint=f"{_AGAIN} If its weights are plain, take {name} away.",
            )


def _said(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What the configuration says of quantization, that of its parts too."""
    for key in _KEYS:
        if isinstance(config.get(key), dict):
            yield key, config[key]
    for part in config.values():
        if isinstance(part, dict):
            yield from ((key, part[key]) for key in _KEYS if isinstance(part.get(key), dict))


def _method(said: Mapping[str, Any]) -> str:
    """The name of the method: AutoGPTQ's files have none, AutoAWQ's and ModelOpt's one of their own."""
    inner = said.get("quantization")
    inner = inner if isinstance(inner, dict) else {}
    for name in (said.get("quant_method"), inner.get("quant_algo"), said.get("format")):
        if isinstance(name, str):
            return name
    if "w_bit" in said:
        return "awq"
    return "gptq" if "desc_act" in said else "unknown method"


def _way(folder: Path, config: Mapping[str, Any], method: str) -> str:
    way = _WAYS.get(method)
    if way is None:
        return _AGAIN
    architectures = config.get("architectures")
    model = str(architectures[0]) if isinstance(architectures, list) and architectures else "AutoModel"
    source, target = str(folder.resolve()), f"{folder.resolve()}-plain"
    code = (
        "import transformers as t; "
        f"t.{model}.from_pretrained({source!r}{way.options}){way.call}"
        f".save_pretrained({target!r}, save_original_format=False)"
    )
    needs = f" (pip install {way.needs})" if way.needs else ""
    return (
        f"{_AGAIN} Where that is gone, have transformers write plain weights{needs}, and copy the "
        f"tokenizer's files beside them: python -c {shlex.quote(code)}"
    )
