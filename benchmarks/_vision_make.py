"""Make what vision.py compares, one kind a run.

python benchmarks/_vision_make.py exported NET OUT            # by torch.onnx, with its inputs
python benchmarks/_vision_make.py static EXPORTED OUT U8S8    # quantize_static; or S8S8; percentile, reduced
python benchmarks/_vision_make.py dynamic EXPORTED OUT
build/peers/openvino/bin/python benchmarks/_vision_make.py openvino EXPORTED OUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

CALIBRATION, INPUTS = "calibration.npz", "inputs.npz"
MODEL = "model.onnx"
OPSET = 18
"""Where torch.onnx writes without converting, and both quantizers read."""
SAMPLES = 64
"""Calibrated on, by everyone; the seed is of neither training nor judging."""
_SEED = 3
_SETTLING = 16
"""Pictures on which batch norms of random weights take their statistics."""


def exported(name: str, out: Path) -> None:
    import torch
    from _vision_sources import SOURCES, module

    source = SOURCES[name]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = module(name)
    samples = source.samples(_SEED, SAMPLES)
    if not source.trained:
        _settle(net, torch.from_numpy(samples[:_SETTLING]))
    out.mkdir(parents=True, exist_ok=True)
    program = torch.onnx.export(
        net.eval(),
        (torch.from_numpy(samples[:2]),),
        input_names=["x"],
        output_names=["y"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    program.save(out / MODEL)
    np.savez(out / CALIBRATION, x=samples)
    np.savez(out / INPUTS, x=samples[:2])


def _settle(module: Any, samples: Any) -> None:
    """Give batch norms the statistics of what random weights compute, or layers would drown in each other."""
    import torch

    for one in module.modules():
        if isinstance(one, torch.nn.BatchNorm2d):
            one.momentum = None
    module.train()
    with torch.no_grad():
        module(samples)


def _calibration(folder: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    with np.load(folder / CALIBRATION) as arrays:
        return dict(arrays)


def _preprocess(source: Path, out: Path) -> Path:
    """Its symbolic shape inference, which is for transformers, ends at the U-Net's Resize: without."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    out.mkdir(parents=True, exist_ok=True)
    quant_pre_process(source / MODEL, out / "preprocessed.onnx", skip_symbolic_shape=True)
    return out / "preprocessed.onnx"


def static(source: Path, out: Path, types: str, *options: str) -> None:
    """As onnxruntime's documentation has it: preprocessed, QDQ, weights by channel, ranges by min and max.

    Or by `percentile`; or with weights `reduced` to seven bits, which is for processors without VNNI. By
    entropy ranges come out as by min and max: as many bins as levels leave nothing to cut off.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            arrays = _calibration(source)
            self.rows = iter([{"x": arrays["x"][at : at + 1]} for at in range(len(arrays["x"]))])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rows, None)

    quantize_static(
        _preprocess(source, out),
        out / MODEL,
        Samples(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range="reduced" in options,
        calibrate_method=CalibrationMethod.Percentile
        if "percentile" in options
        else CalibrationMethod.MinMax,
        activation_type=QuantType.QUInt8 if types == "U8S8" else QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )


def dynamic(source: Path, out: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Its convolutions have no kernel for signed weights.
    quantize_dynamic(_preprocess(source, out), out / MODEL, weight_type=QuantType.QUInt8)


def openvino(source: Path, out: Path) -> None:
    """NNCF's post-training quantization as its documentation has it for nets of convolutions, activations
    other than ReLU among them. The batch is fixed to one, which OpenVINO runs faster."""
    import nncf
    import openvino as ov

    model = ov.convert_model(str(source / MODEL))
    arrays = _calibration(source)
    model.reshape([1, *arrays["x"].shape[1:]])
    rows = [arrays["x"][at : at + 1] for at in range(len(arrays["x"]))]
    quantized = nncf.quantize(
        model, nncf.Dataset(rows), preset=nncf.QuantizationPreset.MIXED, subset_size=len(rows)
    )
    out.mkdir(parents=True, exist_ok=True)
    ov.save_model(quantized, str(out / "model.xml"), compress_to_fp16=False)


if __name__ == "__main__":
    kind, source, out, *types = sys.argv[1:]
    if kind == "exported":
        exported(source, Path(out))
    else:
        KINDS: dict[str, Callable[..., None]] = {f.__name__: f for f in (static, dynamic, openvino)}
        KINDS[kind](Path(source), Path(out), *types)
