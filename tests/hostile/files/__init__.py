"""Small .onnx files that mean harm, by what should become of them."""

from tests.hostile.files import _bombs, _nodes, _odd, _tensors, _topology, _versions  # noqa: F401
from tests.hostile.files._build import BOMBS, DAMAGED, LEGAL, UNRUNNABLE, net, serialized

__all__ = ["BOMBS", "DAMAGED", "LEGAL", "UNRUNNABLE", "net", "serialized"]
