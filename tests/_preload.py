"""What every limited process needs, imported once."""

import onnx.reference
import onnx.version_converter  # noqa: F401
import onnxruntime  # noqa: F401
import rich.table  # noqa: F401

from graphopt.plugins import registry

registry.passes(), registry.targets(), registry.families(), registry.embedded_models()
