"""From a trained model to a graph with lazy weights, through transformers' exporter."""

from graphopt.export._environment import quiet, require_exporter
from graphopt.export._export import Exported, export, export_parts
from graphopt.export._load import load_torch_model
from graphopt.export._source import FOLDER, GGUF, ONNX, Source, resolve_source

__all__ = [
    "FOLDER",
    "GGUF",
    "ONNX",
    "Exported",
    "Source",
    "export",
    "export_parts",
    "load_torch_model",
    "quiet",
    "require_exporter",
    "resolve_source",
]
