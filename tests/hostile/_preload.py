"""What every limited process needs, imported once."""

import onnx.reference  # noqa: F401
import onnx.version_converter  # noqa: F401
import onnxruntime  # noqa: F401
import onnxscript.rewriter.pattern  # noqa: F401
import rich.table  # noqa: F401

import graphopt._driver
import graphopt.cli._export
import graphopt.cli._inspect
import graphopt.cli._optimize
from graphopt import registry

registry.passes(), registry.targets(), registry.families(), registry.embedded_models()
