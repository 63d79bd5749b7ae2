"""A checkpoint is used whole: each of its tensors has its place in the model, or is left out for a reason."""

from __future__ import annotations

import contextlib
import copy
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.export._convert import placed
from graphopt.export._environment import quiet
from graphopt.export._quantized import Checkpoint
from graphopt.ir import Expr, LazyTensor, same_content

__all__ = ["left_out"]

_PLAIN = {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
_QUANTIZED = re.compile(
    r"(scales?|scale_inv|zero_point|qweight|qzeros|g_idx|weight_packed|blocks|SCB|absmax|quant_map|amax)$"
)
_ADAPTED = re.compile(r"(^|[._])(lora_|base_layer\.|ia3_|modules_to_save\.)")
_NEXT_TOKENS = re.compile(r"(^|\.)(mtp|nextn)(_\w+)?\.")
_LAYER = re.compile(r"(^|\.)layers\.(\d+)\.")


def left_out(network: Any, checkpoint: Checkpoint) -> list[str]:
    """What of `checkpoint` is not part of `network`, a `PreTrainedModel`, and rightly so, for users to know.

    That is what transformers itself says may be passed over, and heads: whatever another class of the same
    configuration has, or layers that guess later tokens. Raises `BadInput` for any other tensor without a
    place, for different tensors of one place, and for quantized numbers where the model has plain ones.
    """
    places = placed(network, checkpoint.keys())
    homeless = set(checkpoint.keys()) - places.keys()
    _refuse_twice(places, checkpoint)
    unfit = _unfit(network, places, checkpoint)
    if unfit:
        raise BadInput(
            f"{checkpoint.folder} holds {_listed(unfit)} as {checkpoint.expr(unfit[0]).dtype.name}, "
            f"where {type(network).__name__} has plain numbers",
            hint="They are quantized, and config.json does not say how. Start from the unquantized model.",
        )
    ignored = homeless - _unexpected(network, homeless)
    rest = homeless - ignored
    ahead = {key for key in rest if _guesses_later_tokens(key, network.config)}
    rest -= ahead
    notes = [f"left out as in transformers: {_listed(ignored)}"] if ignored else []
    if ahead:
        notes.append(f"left out, as they guess later tokens: {_listed(ahead)}")
    for other in _other_classes(network, checkpoint.folder) if rest else ():
        theirs = set(placed(other, rest))
        if theirs:
            notes.append(f"left out, as {type(other).__name__} has them for another task: {_listed(theirs)}")
            rest -= theirs
        if not rest:
            break
    if rest:
        raise _refusal(rest, network, checkpoint)
    if checkpoint.unread:
        notes.append(f"not read: {', '.join(checkpoint.unread)}")
    return notes


def _refuse_twice(places: Mapping[str, tuple[str, str | None]], checkpoint: Checkpoint) -> None:
    seen: dict[str, str] = {}
    for key, (name, pattern) in places.items():
        other = seen.setdefault(name, key)
        if pattern is None and other != key and not _same(checkpoint.expr(key), checkpoint.expr(other)):
            raise BadInput(
                f"{checkpoint.folder} holds {key} and {other}, which differ and are both meant for {name}",
                hint="Take the one away that is not meant.",
            )


def _same(a: Expr, b: Expr) -> bool:
    return a.shape == b.shape and same_content(LazyTensor(a), LazyTensor(b))


def _unfit(network: Any, places: Mapping[str, tuple[str, str | None]], checkpoint: Checkpoint) -> list[str]:
    """Names of tensors of quantized numbers where the model has plain ones."""
    state = network.state_dict()
    return [
        key
        for key, (name, _) in places.items()
        if state[name].is_floating_point() and checkpoint.expr(key).dtype not in _PLAIN
    ]


def _unexpected(network: Any, keys: set[str]) -> set[str]:
    """Those of `keys` that transformers would report."""
    info = SimpleNamespace(missing_keys=set(), unexpected_keys=set(keys))
    network._adjust_missing_and_unexpected_keys(info)
    return set(info.unexpected_keys)


def _guesses_later_tokens(key: str, config: Any) -> bool:
    text = config.get_text_config()
    layer = _LAYER.search(key)
    count, more = (getattr(text, name, None) for name in ("num_hidden_layers", "num_nextn_predict_layers"))
    beyond = layer is not None and isinstance(count, int) and bool(more) and int(layer[2]) >= count
    return beyond or _NEXT_TOKENS.search(key) is not None


def _other_classes(model: Any, folder: Path) -> Iterator[Any]:
    """Models that the same file defines for the same configuration, or that of the whole, without weights."""
    import torch
    import transformers

    configs: dict[Any, Any] = {type(model.config): model.config}
    with contextlib.suppress(Exception), quiet():  # code of its own is not run for this
        whole = transformers.AutoConfig.from_pretrained(folder)
        configs.setdefault(type(whole), whole)
    for other in list(vars(sys.modules[type(model).__module__]).values()):
        config = configs.get(getattr(other, "config_class", None))
        if isinstance(other, type) and config is not None:
            network = None
            with contextlib.suppress(Exception), quiet(), torch.device("meta"):
                network = other(copy.deepcopy(config))  # it may need what this configuration lacks
            if network is not None:
                yield network


def _listed(keys: Iterable[str]) -> str:
    """Names, those that differ in a number as one."""
    names = list(dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", key) for key in sorted(keys)))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _refusal(keys: set[str], network: Any, checkpoint: Checkpoint) -> BadInput:
    folder, name = checkpoint.folder, type(network).__name__
    if any(_QUANTIZED.search(key) for key in keys):
        hint = "They look like parts of quantized weights. Start from the unquantized model."
    elif any(_ADAPTED.search(key) for key in keys):
        hint = "They look like an adapter's: merge it into its model first, with peft's merge_and_unload."
    else:
        source, target = str(folder.resolve()), f"{folder.resolve()}-without"
        code = (
            "import transformers as t; "
            f"t.{name}.from_pretrained({source!r}).save_pretrained({target!r}, save_original_format=False)"
        )
        hint = (
            "config.json describes another model than the weights are of, or they are for code of its own. "
            f"If the model is right without them, write it without: python -c {shlex.quote(code)}"
        )
    return BadInput(f"{folder} holds tensors that {name} has no place for: {_listed(keys)}", hint=hint)
