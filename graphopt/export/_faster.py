"""Shortcuts through torch's exporter that leave what its result computes alone.

Most of an export is symbolic shape arithmetic. Parts of it decide nothing: tracing the whole graph a second
time to decompose a handful of trivial operators, running it once more to see where types are promoted,
running attention step by step to learn its output shape, and repeating heads that ONNX's Attention shares.
Nor does reading the source of all of torchlib to list its functions, again for each graph.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
from collections.abc import Callable, Iterator
from operator import getitem
from typing import Any

import torch
from onnxscript._internal.values import TracedOnnxFunction
from torch.onnx._internal.exporter import _decomp, _fx_passes
from torch.onnx._internal.exporter._registration import ONNXRegistry
from torch.onnx._internal.fx.passes import type_promotion
from transformers.exporters import utils
from transformers.integrations import sdpa_attention

__all__ = ["faster_export"]

aten = torch.ops.aten
_CASTS = (aten.to.dtype, aten.to.device, aten.to.dtype_layout, aten.to.other)
_SYNONYMS = {
    aten.__and__.Tensor: aten.bitwise_and.Tensor,
    aten.max.other: aten.maximum.default,
    aten.min.other: aten.minimum.default,
}
_WRITING = {
    aten.add_.Tensor: aten.add.Tensor,
    aten.div_.Tensor: aten.div.Tensor,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.relu_.default: aten.relu.default,
    aten.sub_.Tensor: aten.sub.Tensor,
}
"""Of each operator that writes to its first argument the one that does not."""
_INFERENCE_NORM = aten._native_batch_norm_legit_no_training.default
_MODELS = "transformers.models."
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@contextlib.contextmanager
def faster_export() -> Iterator[None]:
    """Inside, torch's ONNX exporter takes the shortcuts wherever a graph allows."""
    with (
        _listed_functions(),
        _local_decomposition(),
        _promotion_by_record(),
        _attention_by_shape(),
        _shared_heads(),
        _patches_of_loaded_models(),
        _no_stack_traces(),
    ):
        yield


@contextlib.contextmanager
def _listed_functions() -> Iterator[None]:
    original = ONNXRegistry.__dict__["from_torchlib"]
    ONNXRegistry.from_torchlib = staticmethod(lambda **opset: _copied(_torchlib(**opset)))  # type: ignore
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = original  # type: ignore[method-assign]


_from_torchlib = ONNXRegistry.from_torchlib


@functools.cache
def _torchlib(**opset: int) -> ONNXRegistry:
    """torchlib's functions at an opset. Their domain is asked of their parsed source: it is their opset's."""
    original = TracedOnnxFunction.function_ir
    TracedOnnxFunction.function_ir = property(lambda function: function.opset)  # type: ignore
    try:
        return _from_torchlib(**opset)
    finally:
        TracedOnnxFunction.function_ir = original  # type: ignore[method-assign]


def _copied(registry: ONNXRegistry) -> ONNXRegistry:
    """Custom functions are added to the copy alone."""
    copied = copy.copy(registry)
    copied.functions = {target: list(known) for target, known in registry.functions.items()}
    return copied


@contextlib.contextmanager
def _local_decomposition() -> Iterator[None]:
    original = _fx_passes.decompose_with_registry

    def decompose(program: torch.export.ExportedProgram, registry: Any) -> torch.export.ExportedProgram:
        _share_single_heads(program.graph_module)
        known = set(_decomp.get_onnx_implemented_overloads(registry))
        if not all(_is_simple(node, known) for node in program.graph_module.graph.nodes):
            return original(program, registry)
        _rewrite(program.graph_module)
        return program

    _fx_passes.decompose_with_registry = decompose  # type: ignore[assignment]
    try:
        yield
    finally:
        _fx_passes.decompose_with_registry = original


def _is_simple(node: torch.fx.Node, known: set[Any]) -> bool:
    """Whether the exporter can translate the node as it is, or after `_rewrite`."""
    if node.op in ("placeholder", "output"):
        return True
    if node.op != "call_function":
        return False
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return not isinstance(target, torch._ops.HigherOrderOperator)
    if target in (*_CASTS, aten.contiguous.default, *_SYNONYMS) or _is_inference_norm(node):
        return True
    return _functional(node) in known


def _functional(node: torch.fx.Node) -> Any:
    """The operator of a node. Where it writes to its input: one that does not and gives the same, or None, as
    where anything else sees that input."""
    target: Any = node.target
    if not _writes(node):
        return target
    written = node.args[0]
    dtypes = {getattr(one.meta.get("val"), "dtype", None) for one in (node, *node.all_input_nodes)}
    if (
        target not in _WRITING
        or not isinstance(written, torch.fx.Node)
        or set(written.users) != {node}
        or not (_functional(written) if _writes(written) else _is_fresh(written))
        or len(dtypes) > 1
    ):
        return None
    return _WRITING[target]


def _writes(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_fresh(node: torch.fx.Node) -> bool:
    """Whether its result is memory of its own. Composite operators do not say whether theirs is."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if node.target in (aten.matmul.default, aten.linear.default):
        return True
    operator: Any = node.target
    results = operator._schema.returns
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), "CompositeImplicitAutograd")
    return not composite and len(results) == 1 and results[0].alias_info is None


def _is_inference_norm(node: torch.fx.Node) -> bool:
    """Whether it is a batch norm by running statistics: no training, the sixth argument."""
    return node.target is aten.batch_norm.default and node.args[5:6] == (False,) and None not in node.args[:5]


def _rewrite(module: torch.fx.GraphModule) -> None:
    """Spell casts `_to_copy`; leave out those that change nothing, and `contiguous`, unknown to ONNX."""
    for node in list(module.graph.nodes):
        if node.target in _CASTS:
            source, result = node.args[0], node.meta["val"]
            if source.meta["val"].dtype == result.dtype:
                _drop(module, node)
            else:
                node.target, node.args, node.kwargs = (
                    aten._to_copy.default,
                    (source,),
                    {"dtype": result.dtype},
                )
        elif node.target is aten.contiguous.default or _is_unrecorded(node):
            _drop(module, node)
        elif node.target in _SYNONYMS:
            node.target = _SYNONYMS[node.target]
        elif _is_inference_norm(node):
            _name_inference(module, node)
        elif node.target in _WRITING:
            node.target = _WRITING[node.target]
    module.recompile()


def _name_inference(module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    """Replace a batch norm by the operator that knows no training; its other two results are empty."""
    result, momentum_and_epsilon = node.meta["val"], node.args[6:8]
    with module.graph.inserting_before(node):
        norm = module.graph.call_function(_INFERENCE_NORM, (*node.args[:5], *momentum_and_epsilon))
        first = module.graph.call_function(getitem, (norm, 0))
    first.meta = dict(node.meta)
    norm.meta = node.meta | {"val": (result, result.new_empty(0), result.new_empty(0))}
    node.replace_all_uses_with(first)
    module.graph.erase_node(node)
    first.name = node.name  # by which the signature knows a result of the graph


def _is_unrecorded(node: torch.fx.Node) -> bool:
    """Whether it hands on a constant that the trace made, of which it recorded nothing to translate it by."""
    return node.target is aten.detach.default and "val" not in node.meta


def _share_single_heads(module: torch.fx.GraphModule) -> None:
    """Say that one head of keys serves all queries: torch broadcasts it, ONNX's Attention must be told."""
    for node in module.graph.nodes:
        if node.target is not aten.scaled_dot_product_attention.default:
            continue
        query, key, value = (argument.meta["val"].shape for argument in node.args[:3])
        if len(query) == 4 and query[1] != key[1] == value[1] == 1:
            node.kwargs = {**node.kwargs, "enable_gqa": True}


def _drop(module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    if any(user.op == "output" for user in node.users):  # the signature knows it by name
        node.target, node.args, node.kwargs = aten.clone.default, (node.args[0],), {}
    else:
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        module.graph.erase_node(node)


@contextlib.contextmanager
def _promotion_by_record() -> Iterator[None]:
    """Inside, finding the type promotions takes values as the trace recorded them."""
    interpreter: Any = type_promotion._TypePromotionInterpreter
    original = interpreter.run_node

    def run_node(self: Any, node: torch.fx.Node) -> Any:
        if node.op != "call_function" or "val" not in node.meta:
            return original(self, node)
        with self._set_current_node(node):
            rule = type_promotion.get_type_promotion_rule(node, self.type_promotion_table)
            if rule is not None:
                self._maybe_promote_node(node, rule)
        return node.meta["val"]

    interpreter.run_node = run_node
    try:
        yield
    finally:
        interpreter.run_node = original


@contextlib.contextmanager
def _shared_heads() -> Iterator[None]:
    """Inside, transformers leaves it to attention to share key and value heads among query heads."""
    original = sdpa_attention.use_gqa_in_sdpa
    sdpa_attention.use_gqa_in_sdpa = lambda *_: True
    try:
        yield
    finally:
        sdpa_attention.use_gqa_in_sdpa = original


@contextlib.contextmanager
def _patches_of_loaded_models() -> Iterator[None]:
    """Inside, transformers patches no model for its exporter that nobody imported: it would import dozens."""
    original = utils.import_dotted_path

    def import_loaded(path: str, missing_ok: bool = False) -> Any:
        is_models, module = path.startswith(_MODELS), ".".join(path.split(".")[:4])
        return None if is_models and missing_ok and module not in sys.modules else original(path, missing_ok)

    utils.import_dotted_path = import_loaded
    try:
        yield
    finally:
        utils.import_dotted_path = original


@contextlib.contextmanager
def _no_stack_traces() -> Iterator[None]:
    original = torch.fx.config.do_not_emit_stack_traces
    torch.fx.config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        torch.fx.config.do_not_emit_stack_traces = original


@contextlib.contextmanager
def _attention_by_shape() -> Iterator[None]:
    operator: Any = aten.scaled_dot_product_attention.default
    before: Callable[..., Any] | None = operator.py_kernels.get(_COMPOSITE)
    operator.py_kernels[_COMPOSITE] = _attention_shape
    operator._dispatch_cache.clear()
    try:
        yield
    finally:
        del operator.py_kernels[_COMPOSITE]
        if before is not None:
            operator.py_kernels[_COMPOSITE] = before
        operator._dispatch_cache.clear()


def _attention_shape(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> torch.Tensor:
    return query.new_empty((*query.shape[:-1], value.shape[-1]))
