"""Which attention over a cache our kernel serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._known import FLOAT, INT8, UINT8, Known

if TYPE_CHECKING:
    import onnx

__all__ = ["hand_over_attention"]

_PAST_KEY, _PAST_VALUE, _COS, _SIN = 3, 4, 7, 8  # places among the inputs of GroupQueryAttention
_K_SCALE, _V_SCALE, _NORMS, _QUERY_SEQLENS, _COUNT = 12, 13, slice(14, 16), 16, 17
_LANES, _LARGEST = 16, 256  # floats of a vector; ATTENTION_SIZE in attention.h
_OUTPUTS = 3  # the result and both caches: scores (output_qk) are not given
_ATTRIBUTES: dict[str, Any] = {
    "num_heads": 0,
    "kv_num_heads": 0,
    "scale": 0.0,
    "local_window_size": -1,
    "do_rotary": 0,
    "rotary_interleaved": 0,
    "softcap": 0.0,
    "k_quant_type": "NONE",
    "v_quant_type": "NONE",
    "kv_cache_bit_width": 0,
    "causal": 1,
}
_UNSERVED = {
    "smooth_softmax": 0,
    "qk_output": 0,
    "sliding_window_cache": 0,
}


def hand_over_attention(node: onnx.NodeProto, known: Known) -> bool:
    """Make `node`, a GroupQueryAttention, the one that our kernel knows, if it serves it; whether it does.

    It does in float32 with a cache, an input of the graph, of float32, or of integers of 8 or 4 bits with a
    scale a channel; heads of a multiple of 16 up to 256 elements; causal, with any of rotation, window, cap,
    bias and sink.
    """
    import onnx

    says = _ATTRIBUTES | _UNSERVED | {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    says = {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in says.items()
    }
    if any(type(says[name]) is not type(usual) for name, usual in (_ATTRIBUTES | _UNSERVED).items()):
        return False
    names = [*node.input, *[""] * (_COUNT - len(node.input))]
    kind = known.inputs[names[_PAST_KEY]].elem_type if names[_PAST_KEY] in known.inputs else None
    if not _is_served(node, names, says, known) or kind is None:
        return False
    del node.input[:], node.attribute[:]
    node.input.extend([*names[: _NORMS.start], names[_QUERY_SEQLENS]])
    window = max(says["local_window_size"], 0)
    for name, value in (
        ("num_heads", says["num_heads"]),
        ("kv_num_heads", says["kv_num_heads"]),
        ("local_window_size", window),
        ("rotary_interleaved", says["rotary_interleaved"]),
        ("scale", float(says["scale"])),
        ("softcap", float(says["softcap"])),
    ):
        node.attribute.append(onnx.helper.make_attribute(name, value))
    node.op_type += {FLOAT: "", INT8: "Int8", UINT8: "Int4"}[kind]
    return True


def _is_served(node: onnx.NodeProto, names: list[str], says: dict[str, Any], known: Known) -> bool:
    if len(names) != _COUNT or any(names[_NORMS]) or len(node.output) > _OUTPUTS or not all(node.output):
        return False
    if (
        says.keys()
        - _ATTRIBUTES.keys()
        - _UNSERVED.keys()
        - {"k_norm_epsilon", "q_norm_epsilon", "qk_norm_epsilon"}
    ):
        return False
    if any(says[name] != value for name, value in _UNSERVED.items()) or says["causal"] != 1:
        return False
    heads, kv_heads = says["num_heads"], says["kv_num_heads"]
    if heads < 1 or kv_heads < 1 or heads % kv_heads or says["local_window_size"] == 0:
        return False
    past = [known.inputs.get(name) for name in names[_PAST_KEY : _PAST_VALUE + 1]]
    if any(one is None or len(one.shape.dim) != 4 for one in past):
        return False
    sizes = {one.shape.dim[3].dim_value for one in past if one is not None}
    kinds = {one.elem_type for one in past if one is not None}
    if len(sizes) != 1 or len(kinds) != 1:
        return False
    (held,), (kind,) = sizes, kinds
    size = 2 * held if kind == UINT8 else held
    if not 0 < size <= _LARGEST or size % _LANES:
        return False
    tables = names[_COS : _SIN + 1]
    if says["do_rotary"]:
        if not all(known.is_constant(name, FLOAT) for name in tables):
            return False
    elif any(tables):
        return False
    return _is_cache_served(kind, says, names, kv_heads * size, known)


def _is_cache_served(kind: int, says: dict[str, Any], names: list[str], channels: int, known: Known) -> bool:
    quantized = [says["k_quant_type"], says["v_quant_type"]]
    scales = names[_K_SCALE : _V_SCALE + 1]
    if kind == FLOAT:
        return quantized == ["NONE", "NONE"] and not any(scales)
    return (
        (kind, says["kv_cache_bit_width"]) in ((INT8, 8), (UINT8, 4))
        and quantized == ["PER_CHANNEL", "PER_CHANNEL"]
        and all(known.is_constant(name, FLOAT, channels) for name in scales)
    )
