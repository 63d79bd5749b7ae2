"""Weights that are quantized already are refused, whoever says so, with the way to plain ones."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from graphopt.errors import BadInput
from graphopt.export import export, load_torch_model, resolve_source
from graphopt.export._quantized import refuse_quantized

GPTQ = {"bits": 4, "group_size": 128, "desc_act": False, "sym": True}
AWQ = {"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"}
MODELOPT = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}


def write(folder: Path, config: dict[str, Any] | None = None, **files: object) -> Path:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | (config or {})
    for name, content in {"config": config, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        (
            {"quantization_config": {"quant_method": "gptq"}},
            {},
            r"quantized \(gptq\)(.|\n)*unquantized model",
        ),
        ({"quantization_config": {"quant_method": "modelopt"}}, {}, r"quantized \(modelopt\)"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, {}, r"\(awq\)"),
        (
            {"compression_config": {"format": "int-quantized", "config_groups": {}}},
            {},
            r"\(int-quantized\), .* old name 'compression_config'(.|\n)*new name, 'quantization_config'",
        ),
        ({}, {"hf_quant_config": MODELOPT}, r"\(FP8\), as hf_quant_config\.json says"),
        ({}, {"quantize_config": GPTQ}, r"\(gptq\), as quantize_config\.json says(.|\n)*take .* away"),
        ({}, {"quant_config": AWQ}, r"\(awq\), as quant_config\.json says"),
        ({}, {"quantize_config": {}}, r"\(unknown method\), as quantize_config\.json says"),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            {},
            r"accelerate\)(.|\n)*LlamaForCausalLM\.from_pretrained.*FineGrainedFP8Config.dequantize=True"
            r".*save_original_format=False",
        ),
        (
            {"quantization_config": {"quant_method": "compressed-tensors"}},
            {},
            r"CompressedTensorsConfig.dequantize",
        ),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, {}, r"\.dequantize\(\)\.save_pretrained"),
    ],
)
def test_it_is_refused_with_the_way_to_plain_weights(
    tmp_path: Path, config: dict[str, Any], files: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        refuse_quantized(write(tmp_path, config, **files))


def test_the_command_writes_plain_weights_of_the_same_numbers(tmp_path: Path) -> None:
    """With mxfp4, as transformers needs nothing more for it: 4-bit floats in pairs, a power of two for 32."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.GptOssConfig(
        vocab_size=64, num_key_value_heads=2, head_dim=16, num_local_experts=2, num_experts_per_tok=1, **sizes
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = tmp_path / "source"
        transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(source)
        tensors = load_file(source / "model.safetensors")
        (key,) = (name for name in tensors if name.endswith("experts.down_proj"))
        del tensors[key]
        tensors[f"{key}_blocks"] = torch.randint(0, 256, (2, 32, 1, 16), dtype=torch.uint8)
        tensors[f"{key}_scales"] = torch.full((2, 32, 1), 126, dtype=torch.uint8)
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    said = json.loads((source / "config.json").read_text())
    said["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (source / "config.json").write_text(json.dumps(said))
    with pytest.raises(BadInput) as refusal:
        refuse_quantized(source)
    command = shlex.split((refusal.value.hint or "").rpartition("beside them: ")[2])
    assert command[0] == "python"

    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)

    plain = Path(f"{source}-plain")
    refuse_quantized(plain)
    made = load_file(plain / "model.safetensors")[key]
    levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    blocks = tensors[f"{key}_blocks"].flatten(2).long()
    codes = torch.stack([blocks & 15, blocks >> 4], -1).flatten(2)
    expected = torch.where(codes < 8, levels[codes % 8], -levels[codes % 8]) / 2
    assert torch.equal(made.float(), expected.transpose(1, 2))


def test_it_is_said_before_what_its_weights_are_stored_as(tmp_path: Path) -> None:
    """A dtype that no other weights have would be an error of its own."""
    write(tmp_path, {"quantization_config": {"quant_method": "fp8"}})
    header = json.dumps({"a": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1")
    with pytest.raises(BadInput, match=r"already quantized \(fp8\)"):
        export(resolve_source(tmp_path))
    with pytest.raises(BadInput, match=r"already quantized \(fp8\)"):
        load_torch_model(tmp_path, "AutoModelForCausalLM")
    write(tmp_path)
    with pytest.raises(BadInput, match=r"dtype F8_E8M0(.|\n)*belongs to quantized weights"):
        export(resolve_source(tmp_path))
