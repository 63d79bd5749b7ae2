"""GGUF files as checkpoints: names and configuration by transformers, blocks as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.importers._gguf_blocks import KEPT, GgufFloats, GgufIntegers, GgufScales
from graphopt.importers._gguf_rope import ROPE_FACTORS, scaled_rope
from graphopt.importers._stored import Tensors
from graphopt.ir import Blocks, Cast, Expr, FileRange, InMemory

if TYPE_CHECKING:
    from gguf import GGUFReader

__all__ = ["GGUF_FILE", "GgufCheckpoint", "open_gguf", "write_model_folder"]

GGUF_FILE = "model.gguf"
"""The name of the file, or of a link to it, in the folder that `write_model_folder` makes."""

_PLAIN = {"F32": ir.DataType.FLOAT, "F16": ir.DataType.FLOAT16, "BF16": ir.DataType.BFLOAT16}
_AS_THEY_LIE = ("TensorProcessor", "LlamaTensorProcessor", "Gemma2TensorProcessor", "NemotronTensorProcessor")
"""What transformers does to an architecture's tensors: matrices are left alone, but for Llama's heads."""
_AGAIN = "Download it again."


def open_gguf(path: Path) -> GGUFReader:
    """The file's header. Raises `BadInput` where it is damaged, `EnvironmentProblem` without `gguf`."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise EnvironmentProblem(
            f"{path.name} is a GGUF file, and reading it needs gguf", hint="pip install 'graphopt[gguf]'"
        ) from error
    try:
        reader = GGUFReader(path)
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
    ) as error:
        raise BadInput(f"{path} is truncated or not a GGUF file: {error}", hint=_AGAIN) from error
    if "general.architecture" not in reader.fields:
        raise BadInput(f"{path} does not say which architecture it is of", hint=_AGAIN)
    return reader


def write_model_folder(path: Path, folder: Path) -> None:
    """Make `folder` a model folder of the GGUF file: configuration, tokenizer, and a link to the file.

    Raises `BadInput` for an architecture that transformers does not read from GGUF, and for rotations scaled
    by a rule that is not known.
    """
    import transformers

    reader = open_gguf(path)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BadInput(f"{path} cannot be read by transformers: {error}") from error
    architecture = transformers.AutoModelForCausalLM._model_mapping.get(type(config), None)
    if architecture is None:
        raise BadInput(f"{path} is a {config.model_type}, which is no language model of transformers")
    for tensor in reader.tensors:
        if tensor.name in ROPE_FACTORS:
            config.rope_parameters = scaled_rope(tensor.data, dict(config.rope_parameters), str(path))
    config.architectures = [architecture.__name__]
    config.save_pretrained(folder)
    if "tokenizer.ggml.tokens" in reader.fields:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        tokenizer.save_pretrained(folder)
    link = folder / GGUF_FILE
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve())


@dataclass(frozen=True)
class _Names:
    """What transformers calls the tensors of a file, and what it does to them."""

    by_gguf: dict[str, str]
    processor: Any
    heads: dict[str, int]

    @classmethod
    def of(cls, folder: Path, architecture: str) -> _Names:
        import torch
        import transformers
        from transformers import modeling_gguf_pytorch_utils as reading

        config = transformers.AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            network = transformers.AutoModelForCausalLM.from_config(config)
        kind = reading.TENSOR_PROCESSORS.get(architecture, reading.TensorProcessor)
        if kind.__name__ not in _AS_THEY_LIE:
            raise BadInput(
                f"{folder / GGUF_FILE} is of the architecture {architecture!r}, whose matrices GGUF has in "
                "another order, which is not read",
                hint="Start from the model's safetensors.",
            )
        processor = kind(config=config.to_dict())
        names = reading.get_gguf_hf_weights_map(network, processor)
        heads = {}
        if kind is reading.LlamaTensorProcessor:
            heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
        return cls(names, processor, heads)

    def halved(self, name: str) -> int:
        """Of how many heads the rows of a tensor are that lie in pairs; 0 where they lie in halves."""
        return next((count for part, count in self.heads.items() if part in name), 0)


class GgufCheckpoint(Tensors):
    """The tensors of the GGUF file in a folder of `write_model_folder`'s, by transformers' names.

    Matrices in blocks that MatMulNBits can hold are `graphopt.ir.Blocks`, others float32: of which types
    these are, `unkept` says. Raises `BadInput` for a damaged file, and for types that nobody reads.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.unread = folder, list[str]()
        self.path = (folder / GGUF_FILE).resolve()
        reader = open_gguf(self.path)
        field = reader.fields["general.architecture"]
        names = _Names.of(folder, str(field.contents()))
        self._stamp, self._size = self.path.stat().st_mtime_ns, self.path.stat().st_size
        self._exprs = {}
        for tensor in reader.tensors:
            if tensor.name in names.by_gguf:
                self._exprs[names.by_gguf[tensor.name]] = self._expr(tensor, names)
        self.unkept = sorted(
            {e.kind for e in self._exprs.values() if isinstance(e, GgufFloats)} - set(_PLAIN)
        )
        kept = sum(isinstance(e, Blocks) for e in self._exprs.values())
        self.notes = [f"{kept} weights of the GGUF file are kept in their blocks"] if kept else []

    def _expr(self, tensor: Any, names: _Names) -> Expr:
        kind, shape = tensor.tensor_type.name, tuple(int(size) for size in reversed(tensor.shape))
        start, length = int(tensor.data_offset), int(tensor.n_bytes)
        if start + length > self._size:
            raise BadInput(
                f"{self.path} is truncated: tensor {tensor.name!r} ends at byte {start + length}, the "
                f"file at {self._size}",
                hint=_AGAIN,
            )
        if len(shape) == 1:
            return self._vector(tensor, names)
        heads = names.halved(tensor.name)
        if kind in _PLAIN and not heads:
            return FileRange(self.path, start, length, _PLAIN[kind], shape, self._stamp)
        raw = FileRange(
            self.path, start, length, ir.DataType.UINT8, (shape[0], length // shape[0]), self._stamp
        )
        if kind in KEPT:
            form = KEPT[kind]
            return Blocks(
                GgufIntegers(raw, kind, heads),
                GgufScales(raw, kind, heads),
                None,
                form.bits,
                form.block,
                shape[1],
            )
        return GgufFloats(raw, kind, heads, shape[1])

    def _vector(self, tensor: Any, names: _Names) -> Expr:
        """A norm's gain, a bias: small, and read as transformers reads it."""
        from gguf.quants import dequantize

        values = dequantize(tensor.data, tensor.tensor_type)
        made = names.processor.process(values, name=tensor.name).weights
        return Cast(InMemory(made), ir.DataType.FLOAT)
