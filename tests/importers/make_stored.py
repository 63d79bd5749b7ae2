"""Writes stored/*.safetensors: layers as the tools that quantize store them, and what they read there.

Not run by the tests, for the tools want environments of their own. They were made with gptqmodel 7.7.0,
auto-round 0.16.1, autoawq 0.2.9 and compressed-tensors 0.20.1 beside torch 2.13 on a CPU (autoawq without
triton, gptqmodel without torchao: what is used here needs neither):

    pip install --no-deps gptqmodel auto-round autoawq compressed-tensors
    python tests/importers/make_stored.py

Each file holds the tensors of a layer `layer`, `expected` [N, K] that the tool makes of them with its scales
widened to float32, `rounded` that it makes of them as they are, and in its metadata `method` and `said`, the
configuration. Integers and zero points are random, so that no two places are alike.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

N, K = 32, 128
OUT = Path(__file__).parent / "stored"


def numbers(bits: int, group: int, *, symmetric: bool = False, seed: int = 0) -> tuple[Any, Any, Any]:
    """Integers [N, K], scales in float16 and zero points [N, K / group]."""
    torch.manual_seed(seed)
    q = torch.randint(0, 1 << bits, (N, K))
    zeros = torch.randint(1, 1 << bits, (N, K // group))
    zeros = torch.full_like(zeros, 1 << (bits - 1)) if symmetric else zeros
    return q, (torch.rand(N, K // group) * 0.02 + 0.001).half(), zeros


def linear(q: Any, scales: Any, zeros: Any, groups: Any) -> torch.nn.Linear:
    """A layer that rounds to exactly these integers; `groups` [K] says which each input is in."""
    made = torch.nn.Linear(K, N, bias=False)
    made.weight.data = scales.float()[:, groups] * (q - zeros[:, groups]).float()
    return made.requires_grad_(False)


def write(
    name: str, method: str, said: dict[str, Any], layer: dict[str, Any], read: Any, exact: Any = None
) -> None:
    """`read(tensors)` gives the weight [N, K] in the dtype of the scales, `exact` in float32."""
    layer = {key: tensor.contiguous() for key, tensor in layer.items()}
    tensors = {f"layer.{key}": tensor for key, tensor in layer.items()}
    wide = {
        k: t.float() if k in ("scales", "weight_scale") and t.dtype.itemsize > 1 else t
        for k, t in layer.items()
    }
    tensors["expected"] = (exact or read)(wide).float().contiguous()
    tensors["rounded"] = read(layer).contiguous()
    save_file(tensors, OUT / f"{name}.safetensors", {"method": method, "said": json.dumps(said)})
    print(name, {k: tuple(t.shape) for k, t in layer.items()}, tensors["rounded"].dtype)


def by_gptqmodel(
    name: str, bits: int, group: int, form: str, *, symmetric: bool, ordered: bool = True
) -> None:
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module, convert_gptq_v2_to_v1_format_module

    size = K if group == -1 else group
    q, scales, zeros = numbers(bits, size, symmetric=symmetric)
    groups = torch.arange(K) // size
    groups = groups if ordered else groups[torch.randperm(K)]

    def module() -> Any:
        made = TorchLinear(bits, group, sym=symmetric, desc_act=not ordered, in_features=K, out_features=N)
        return made.eval()

    packed = module()
    packed.pack_original(linear(q, scales, zeros, groups), scales.float(), zeros, groups.int())
    packed.scales = packed.scales.half()
    packed.qzero_format(format=2)
    if form == "gptq":
        convert_gptq_v2_to_v1_format_module(packed, QuantizeConfig(bits=bits))
    layer = {key: getattr(packed, key).clone() for key in ("qweight", "qzeros", "scales", "g_idx")}

    def read(tensors: dict[str, Any]) -> Any:
        made = module()
        for key, tensor in tensors.items():
            setattr(made, key, tensor.clone())
        if form == "gptq":
            made.qzero_format(format=1)
            convert_gptq_v1_to_v2_format_module(made, bits, torch.int32)
        made.post_init()
        return made.dequantize_weight().T

    said = {"bits": bits, "group_size": group, "desc_act": not ordered, "sym": symmetric}
    write(name, "gptq", said | {"checkpoint_format": form}, layer, read)


def by_auto_round(name: str, bits: int, packing: str, *, symmetric: bool, group: int = 32) -> None:
    from auto_round.export.export_to_autoround.export import dynamic_import_quant_linear_for_packing

    q, scales, zeros = numbers(bits, group, symmetric=symmetric)
    made = dynamic_import_quant_linear_for_packing(packing, bits, group, symmetric)
    source = linear(q, scales, zeros, torch.arange(K) // group)
    packed = made(bits, group, K, N, bias=False, weight_dtype=torch.float16)
    packed.device = "cpu"
    packed.pack(source, scales.float(), zeros.float(), None, device="cpu")
    layer = {key: getattr(packed, key).clone() for key in ("qweight", "qzeros", "scales")}

    def read(tensors: dict[str, Any]) -> Any:
        for key, tensor in tensors.items():
            setattr(packed, key, tensor.clone())
        return packed(torch.eye(K, dtype=tensors["scales"].dtype)).T

    said = {
        "bits": bits,
        "group_size": group,
        "sym": symmetric,
        "data_type": "int",
        "packing_format": packing,
    }
    write(name, "auto-round", said, layer, read)


def by_autoawq(name: str, *, symmetric: bool, group: int = 32) -> None:
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm

    q, scales, zeros = numbers(4, group, symmetric=symmetric)
    source = linear(q, scales, zeros, torch.arange(K) // group)
    packed = WQLinear_GEMM.from_linear(
        source, 4, group, scales=scales.T.contiguous(), zeros=zeros.T.contiguous()
    )
    layer = {key: getattr(packed, key).clone() for key in ("qweight", "qzeros", "scales")}
    said = {"bits": 4, "group_size": group, "zero_point": not symmetric, "version": "gemm"}
    write(
        name,
        "awq",
        said,
        layer,
        lambda t: dequantize_gemm(t["qweight"], t["qzeros"], t["scales"], 4, group).T,
    )


def by_compressed_tensors(name: str, form: str, **weights: Any) -> None:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights))
    compressor = BaseCompressor.get_value_from_registry(form)
    bits, group = weights["num_bits"], weights.get("group_size") or K
    q, scales, zeros = numbers(bits, group, symmetric=weights.get("symmetric", True))
    groups = torch.arange(K) // group
    state = {
        "weight_scale": scales.bfloat16(),
        "weight_zero_point": (zeros - (1 << (bits - 1))).to(torch.int8),
    }
    if weights.get("type") == "float":
        state = {"weight_scale": scales.float() * 100, "weight_global_scale": torch.tensor([37.5])}
        levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
        values = levels[q % 8] * (1 - 2 * (q // 8)).float()
        rounded = state["weight_scale"].to(torch.float8_e4m3fn).float()
        state["weight"] = (values * (rounded / 37.5)[:, groups]).bfloat16()
    else:
        state["weight"] = (
            state["weight_scale"].float()[:, groups] * (q - zeros[:, groups]).float()
        ).bfloat16()
    layer = compressor.compress(state, scheme)

    def read(tensors: dict[str, Any]) -> Any:
        return compressor.decompress(dict(tensors), scheme)["weight"]

    def exact(tensors: dict[str, Any]) -> Any:
        integers = unpack_fp4_from_uint8(tensors["weight_packed"], N, K, torch.float32)
        scale, whole = tensors["weight_scale"].float(), tensors["weight_global_scale"]
        return dequantize(integers, scale, None, scheme.weights, torch.float32, whole)

    said = {"format": form, "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}
    is_float = weights.get("type") == "float"
    write(name, "compressed-tensors", said, layer, read, exact if is_float else None)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    by_gptqmodel("gptq-v1", 4, 32, "gptq", symmetric=False)
    by_gptqmodel("gptq-v1-symmetric", 4, 64, "gptq", symmetric=True)
    by_gptqmodel("gptq-v1-8-bits", 8, 64, "gptq", symmetric=False)
    by_gptqmodel("gptq-v2", 4, 32, "gptq_v2", symmetric=False)
    by_gptqmodel("gptq-v2-2-bits", 2, 64, "gptq_v2", symmetric=False)
    by_gptqmodel("gptq-whole-rows", 4, -1, "gptq_v2", symmetric=False)
    by_gptqmodel("gptq-desc-act", 4, 32, "gptq", symmetric=False, ordered=False)
    by_auto_round("auto-round-symmetric", 4, "auto_round:auto_gptq", symmetric=True)
    by_auto_round("auto-round-gptq", 4, "auto_round:auto_gptq", symmetric=False)
    by_auto_round("auto-round-8-bits", 8, "auto_round:auto_gptq", symmetric=True)
    by_auto_round("auto-round-raw-zeros", 4, "auto_round:exllamav2", symmetric=False)
    by_autoawq("awq", symmetric=False)
    by_autoawq("awq-symmetric", symmetric=True)
    pack, whole = "pack-quantized", {"strategy": "channel"}
    group: dict[str, Any] = {"strategy": "group", "group_size": 32}
    by_compressed_tensors("packed", pack, num_bits=4, symmetric=True, **group)
    by_compressed_tensors("packed-asymmetric", pack, num_bits=4, symmetric=False, **group)
    by_compressed_tensors("packed-channel", pack, num_bits=4, symmetric=False, **whole)
    by_compressed_tensors("packed-8-bits", pack, num_bits=8, symmetric=True, **group)
    by_compressed_tensors("int8", "int-quantized", num_bits=8, symmetric=True, **whole)
    by_compressed_tensors("int8-asymmetric", "int-quantized", num_bits=8, symmetric=False, **whole)
    by_compressed_tensors(
        "nvfp4",
        "nvfp4-pack-quantized",
        num_bits=4,
        type="float",
        symmetric=True,
        strategy="tensor_group",
        group_size=16,
    )


if __name__ == "__main__":
    main()
