"""The one place that calls transformers' exporter."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.export._environment import quiet
from graphopt.export._widen import widen_masks
from graphopt.families import ExportInputs

if TYPE_CHECKING:
    from graphopt.export._alike import Stack

__all__ = ["OPSET", "CannotTrace", "reported", "trace"]

OPSET = 23  # the canonical one: the first with Attention, RMSNormalization and RotaryEmbedding
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class CannotTrace(BadInput):
    """The exporter, or the model's own code, failed on the way to a graph."""

    @property
    def needs_data(self) -> bool:
        """Whether it failed for want of data: code looked into a tensor on the meta device."""
        return "meta" in str(self.hint)


def trace(model: Any, inputs: ExportInputs) -> ir.Model:
    """The graph of `model` on `inputs`: opset 23, not optimized, inputs and outputs under torch's names.

    Of layers that are alike, three are traced. Shortcuts come first, then the exporter as it is, then
    attention spelled out, which needs no operator of its own. Raises `CannotTrace` with what the first
    attempt at all layers met.
    """
    from graphopt.export._faster import faster_export

    attempts: tuple[Callable[[], Any], ...] = (
        faster_export,
        contextlib.nullcontext,
        lambda: _eager_attention(model),
    )
    first: Exception | None = None
    with _ready(model, inputs):
        short = _of_few_layers(model, inputs)
        if short is not None:
            return short
        for attempt in attempts:
            try:
                with attempt():
                    return _export(model, inputs)
            except MemoryError:
                raise
            except Exception as error:
                first = first or error
    with reported(type(model).__name__):
        raise first or AssertionError


@contextlib.contextmanager
def _ready(model: Any, inputs: ExportInputs) -> Iterator[None]:
    """Inside, `_export` works, and quietly."""
    with (
        quiet(),
        _without_dumps(),
        _scalars_keep_their_value(),
        _forward(model, inputs.forward),
    ):
        yield


def _of_few_layers(model: Any, inputs: ExportInputs) -> ir.Model | None:
    """The graph made from a trace of few of the model's layers, where they are alike."""
    from graphopt.export._alike import alike_layers

    stack = alike_layers(model)
    if stack is None:
        return None
    try:
        return _shortened(model, inputs, stack)
    except MemoryError:
        raise
    except Exception:  # what is wrong, if it is more than unlike layers, is said when all are traced
        return None


def _shortened(model: Any, inputs: ExportInputs, stack: Stack) -> ir.Model:
    """Raises `Unlike` where a trace shows that layers are."""
    import torch

    from graphopt.export._faster import faster_export
    from graphopt.export._repeat import renumber, repeat_layers

    # Of few layers, hardly anything is computed twice: remembering it takes a tenth of the trace.
    seldom_again = torch._dynamo.config.patch(fake_tensor_cache_enabled=False)
    with faster_export(), stack.shortened(), seldom_again:
        program = _export(model, inputs)
    repeat_layers(program.graph, stack)
    renumber(program.graph)
    return program


def _export(model: Any, inputs: ExportInputs) -> ir.Model:
    from transformers.exporters import OnnxConfig, OnnxExporter

    shapes = _dynamic_shapes(inputs)
    config = OnnxConfig(dynamic=True, dynamic_shapes=shapes, opset_version=OPSET, optimize=False)
    program: ir.Model = OnnxExporter().export(model, dict(inputs.kwargs), config).program
    widen_masks(program)
    return program


@contextlib.contextmanager
def reported(architecture: str) -> Iterator[None]:
    """Turn what foreign code raises inside into `CannotTrace` that names the architecture."""
    try:
        yield
    except (BadInput, MemoryError):
        raise
    except Exception as error:
        raise CannotTrace(
            f"{architecture} cannot be exported: transformers' exporter failed", hint=_reasons(error)
        ) from error


@contextlib.contextmanager
def _without_dumps() -> Iterator[None]:
    """Inside, torch does not print hundreds of lines of a graph that it did not finish."""
    from torch.export import _trace

    vars(_trace)["print"] = lambda *_, **__: None
    try:
        yield
    finally:
        del vars(_trace)["print"]


@contextlib.contextmanager
def _scalars_keep_their_value() -> Iterator[None]:
    """Inside, `torch.tensor(number)` on the meta device is a fill, which the graph records."""
    import torch

    with torch.device("meta"):  # PyTorch looks up once what makes tensors: not what stands there meanwhile
        torch.empty(0)
    original = torch.tensor

    def tensor(data: Any, **options: Any) -> torch.Tensor:
        device = options.get("device")
        if (
            isinstance(data, bool | int | float)
            and device is not None
            and torch.device(device).type == "meta"
        ):
            options["dtype"] = options.get("dtype") or original(data).dtype
            return torch.full((), data, **options)
        return original(data, **options)

    torch.tensor = tensor  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.tensor = original


@contextlib.contextmanager
def _forward(model: Any, other: Callable[..., Any] | None) -> Iterator[None]:
    """Inside, calling `model` calls `other`, if there is one."""
    if other is not None:
        model.forward = other
    try:
        yield
    finally:
        model.__dict__.pop("forward", None)


@contextlib.contextmanager
def _eager_attention(model: Any) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _dynamic_shapes(inputs: ExportInputs) -> dict[str, Any]:
    """What varies, nested as torch wants it: one entry an argument, a flat list for a container's tensors.

    Torch finds out by itself which axes are equal and how long they may be: a bound it would want stated
    follows from the model's code (a table of 512 positions, say).
    """
    import torch

    auto = torch.export.Dim.AUTO
    specs = iter(
        {axis: auto for axis, d in enumerate(dims) if isinstance(d, str)} for dims in inputs.dims.values()
    )
    shapes: dict[str, Any] = {}
    for name, value in inputs.kwargs.items():
        if isinstance(value, torch.Tensor):
            shapes[name] = next(specs)
        elif not isinstance(value, bool | int | float | str | None):
            shapes[name] = [next(specs) for _ in _tensors(value)]
    if next(specs, None) is not None:
        raise ValueError("`dims` describes more tensors than `kwargs` holds")
    return shapes


def _tensors(container: Any) -> list[Any]:
    from transformers.exporters.exporter_dynamo import get_auto_dynamic_shapes

    return list(get_auto_dynamic_shapes(container))


def _reasons(error: BaseException) -> str:
    """What was said, the first cause first."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    said = [f"{type(e).__name__}: {_one_line(str(e))}" for e in reversed(chain)]
    return "\n  ".join(list(dict.fromkeys(said))[:2])


def _one_line(text: str) -> str:
    return " ".join(_COLOURS.sub("", text).split())[:400]
