#!/usr/bin/env bash
# auto-round 0.16.0 rounds a model with zero points (sym=False) and then cannot write it in its own format:
# save_quantized(format="auto_round") raises TypeError (unexpected keyword argument 'weight_dtype'), because
# asymmetric models go to the AWQ layer, which does not take what the exporter hands every layer. The same
# run writes sym=True in this format, and the asymmetric model as "auto_gptq".
# graphopt minds it in benchmarks/_auto_round.py, which writes zero points as "auto_gptq".
# Seen 2026-11-29 with torch 2.13.0 on a CPU, Python 3.11.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 auto-round==0.16.0 transformers==5.24.0
cd "$work"
cat > try.py <<'PY'
import torch
from auto_round import AutoRound
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

words = {f"w{i}": i for i in range(64)}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")))
rows = torch.randint(1, 64, (8, 32))
torch.manual_seed(0)


def saved(symmetric: bool, form: str) -> str:
    config = LlamaConfig(vocab_size=64, hidden_size=128, intermediate_size=128, num_hidden_layers=1,
                         num_attention_heads=4, num_key_value_heads=4)
    rounding = AutoRound(
        AutoModelForCausalLM.from_config(config), tokenizer, scheme="W4A16", group_size=32, sym=symmetric,
        dataset=[{"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]} for row in rows],
        seqlen=32, nsamples=8, iters=2, device_map="cpu", enable_torch_compile=False,
    )
    rounding.quantize()
    try:
        rounding.save_quantized(f"out-{symmetric}-{form}", format=form, inplace=True)
    except TypeError as error:
        return f"TypeError: {error}"
    return "saved"


found = {(s, f): saved(s, f) for s, f in [(True, "auto_round"), (False, "auto_round"), (False, "auto_gptq")]}
print(found)
assert found[True, "auto_round"] == "saved"
assert found[False, "auto_gptq"] == "saved"
assert "weight_dtype" in found[False, "auto_round"], found
PY
"$work/venv/bin/python" try.py 2> errors || { tail -20 errors >&2; exit 1; }
