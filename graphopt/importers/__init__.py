"""Weights that other tools quantized, as lazy expressions that keep their integers."""

from graphopt.importers._checkpoint import Imported, is_read, quantized_reader
from graphopt.importers._gguf import GGUF_FILE, GgufCheckpoint, write_model_folder
from graphopt.importers._stored import Reader

__all__ = [
    "GGUF_FILE",
    "GgufCheckpoint",
    "Imported",
    "Reader",
    "is_read",
    "quantized_reader",
    "write_model_folder",
]
