"""Which attention without a cache our kernel serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._known import FLOAT, OWN_DOMAIN, Known
from ._uses import Uses, drop_unused

if TYPE_CHECKING:
    import onnx

__all__ = ["hand_over_full_attention"]

_LANES, _LARGEST = 16, 256  # floats of a vector; FULL_ATTENTION_SIZE in full_attention.h
_SERVED: dict[str, Any] = {
    "is_causal": 0,
    "softcap": 0.0,
    "qk_matmul_output_mode": 0,
    "softmax_precision": FLOAT,
}
_FREE = {"q_num_heads", "kv_num_heads", "scale"}


def hand_over_full_attention(graph: onnx.GraphProto, known: Known) -> bool:
    """Make each Attention in `graph` that our kernel serves the one that it knows; whether there are any.

    It does in float32 with rows of heads side by side, as many of keys as of queries, of a multiple of 16 up
    to 256 elements; not causal, with a bias of four dimensions or none. What one Split takes apart for it
    alone it reads as it is. Where products of rounded rows made all that it reads, it may round that, too, to
    bfloat16.
    """
    uses = Uses.of(graph)
    found = [node for node in graph.node if _is_served(node, known)]
    for node in found:
        _become_ours(node, uses, known)
    if found:
        drop_unused(graph)
    return bool(found)


def _is_served(node: onnx.NodeProto, known: Known) -> bool:
    from onnx import helper

    if (node.op_type, node.domain, len(node.output)) != ("Attention", "", 1):
        return False
    if len(node.input) not in (3, 4) or not all(node.input):
        return False
    says = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    heads = says.get("q_num_heads", 0)
    if says.keys() - _SERVED.keys() - _FREE or heads < 1 or says.get("kv_num_heads") != heads:
        return False
    if any(name in says and says[name] != value for name, value in _SERVED.items()):
        return False
    if says.get("scale", 1.0) <= 0 or any(not known.is_float(name) for name in node.input):
        return False
    query, key, value = (known.shape(name) for name in node.input[:3])
    if len(query) != 3 or len(key) != 3 or key != value or query[::2] != key[::2]:
        return False
    width = query[2]
    if not isinstance(width, int) or width % (heads * _LANES) or width // heads > _LARGEST:
        return False
    bias = known.shape(node.input[3]) if len(node.input) == 4 else (1, 1, 1, key[1])
    sizes = ((1, query[0]), (1, heads), (1, query[1]), (key[1],))
    return len(bias) == 4 and all(one in right for one, right in zip(bias, sizes, strict=True))


def _become_ours(node: onnx.NodeProto, uses: Uses, known: Known) -> None:
    from onnx import helper

    says = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    packed = _packed(node, uses, known)
    inputs = [packed, "", ""] if packed else list(node.input[:3])
    inputs.extend(node.input[3:])
    while not inputs[-1]:
        inputs.pop()
    node.domain = OWN_DOMAIN
    del node.input[:], node.attribute[:]
    node.input.extend(inputs)
    node.attribute.append(helper.make_attribute("heads", says["q_num_heads"]))
    node.attribute.append(helper.make_attribute("scale", float(says.get("scale", 0.0))))
    rounded = all(_is_rounded(name, uses) for name in inputs[:3] if name)
    node.attribute.append(helper.make_attribute("rounded", int(rounded)))


def _is_rounded(name: str, uses: Uses) -> bool:
    """Whether a product of rounded rows made it."""
    maker = uses.made.get(name)
    return maker is not None and (maker.op_type, maker.domain) == ("RowProduct", OWN_DOMAIN)


def _packed(node: onnx.NodeProto, uses: Uses, known: Known) -> str:
    """The value whose thirds are query, key and value, which nothing else uses; "" if there is none."""
    parts = [uses.user(name, "Attention", len(node.input)) for name in node.input[:3]]
    split = uses.maker(node.input[0], "Split", 2)
    if split is None or list(split.output) != list(node.input[:3]) or any(one is not node for one in parts):
        return ""
    axis = [a.i for a in split.attribute if a.name == "axis"]
    width = known.shape(node.input[0])[2]
    if axis not in ([-1], [2]) or known.numbers(split.input[1]) != [width] * 3:
        return ""
    name: str = split.input[0]
    return name
