"""Make what encoder.py compares, one kind a run.

python benchmarks/_encoder_make.py checkpoint OUT              # BERT-base's shape, random weights
python benchmarks/_encoder_make.py exported CHECKPOINT OUT     # by transformers' own exporter
python benchmarks/_encoder_make.py optimized EXPORTED OUT      # onnxruntime.transformers
python benchmarks/_encoder_make.py dynamic EXPORTED OUT        # ... and quantize_dynamic
build/peers/openvino/bin/python benchmarks/_encoder_make.py openvino EXPORTED OUT TEXTS.npz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def checkpoint(out: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig()).eval().save_pretrained(out)


def exported(source: Path, out: Path) -> None:
    import torch
    from transformers import AutoModel
    from transformers.exporters import OnnxConfig, OnnxExporter

    model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    ids = torch.arange(1, 17).reshape(2, 8)
    mask = torch.tensor([[1] * 5 + [0] * 3, [1] * 8])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    OnnxExporter().export(model, feeds, OnnxConfig(dynamic=True)).save_pretrained(out)


def optimized(source: Path, out: Path, name: str = "model.onnx") -> None:
    """Fused by onnxruntime's optimizer for BERT."""
    from onnxruntime.transformers import optimizer

    config = json.loads((source / "config.json").read_text())
    out.mkdir(parents=True, exist_ok=True)
    fused = optimizer.optimize_model(
        str(source / "model.onnx"),
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
    )
    fused.save_model_to_file(str(out / name))
    print(fused.get_fused_operator_statistics())


def dynamic(source: Path, out: Path) -> None:
    """As onnxruntime's documentation does it: the optimizer for BERT, then int8 weights by output channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    optimized(source, out, "fused.onnx")
    quantize_dynamic(out / "fused.onnx", out / "model.onnx", per_channel=True, weight_type=QuantType.QInt8)


def openvino(source: Path, out: Path, texts: Path) -> None:
    """Weights and activations, calibrated on texts: NNCF's post-training quantization of transformers."""
    import nncf
    import numpy as np
    import openvino as ov

    model = ov.convert_model(str(source / "model.onnx"))
    names = {port.any_name for port in model.inputs}
    with np.load(texts) as arrays:
        feeds = {name: arrays[name] for name in names}
    rows = [{k: v[i : i + 1] for k, v in feeds.items()} for i in range(len(feeds["input_ids"]))]
    quantized = nncf.quantize(model, nncf.Dataset(rows), model_type=nncf.ModelType.TRANSFORMER)
    out.mkdir(parents=True, exist_ok=True)
    ov.save_model(quantized, str(out / "model.xml"), compress_to_fp16=False)


if __name__ == "__main__":
    KINDS = {f.__name__: f for f in (checkpoint, exported, optimized, dynamic, openvino)}
    KINDS[sys.argv[1]](*map(Path, sys.argv[2:]))
