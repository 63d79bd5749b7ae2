#!/usr/bin/env bash
# A good engineer would expect a GGUF file of a Llama 3.1 model to be the same model in transformers as in llama.cpp, or to be refused. What
# scales its rotations is a tensor in such a file, rope_freqs.weight, by which frequencies are divided. transformers 5.23.0 passes over it, with no
# warning: the configuration it makes has plain rotations, so that the model goes wrong with growing distance between tokens.
#
# Seen: `default` where the factors are those of factor 8; the slowest frequency is 8 times what the file says.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    gguf==0.19.0 transformers==5.23.0 torch==2.13.0 accelerate==1.15.0
cd "$work"
venv/bin/python -W ignore - <<'PY'
import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

hidden, heads = 64, 2
config = LlamaConfig(
    vocab_size=32, hidden_size=hidden, intermediate_size=64, num_hidden_layers=1, num_attention_heads=heads,
    num_key_value_heads=heads, max_position_embeddings=131072, tie_word_embeddings=True,
    rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                     "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
)
scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
plain = 1.0 / 500000.0 ** (torch.arange(0, hidden // heads, 2).float() / (hidden // heads))

writer = gguf.GGUFWriter("model.gguf", "llama")
writer.add_context_length(131072)
writer.add_embedding_length(hidden)
writer.add_block_count(1)
writer.add_feed_forward_length(64)
writer.add_head_count(heads)
writer.add_head_count_kv(heads)
writer.add_layer_norm_rms_eps(1e-6)
writer.add_rope_freq_base(500000.0)
writer.add_vocab_size(32)
names = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
for name, value in LlamaForCausalLM(config).state_dict().items():
    short = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}.get(name)
    if short is None and name != "lm_head.weight":
        short = f"blk.0.{names[name.split('.', 3)[3].removesuffix('.weight')]}.weight"
    if short is not None:
        writer.add_tensor(short, value.numpy())
writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy().astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

model = AutoModelForCausalLM.from_pretrained(".", gguf_file="model.gguf")
kind = model.config.rope_parameters["rope_type"]
ratio = float(model.model.rotary_emb.inv_freq[-1] / scaled[-1])
print(kind, f"{ratio:.3f}")
if kind != "default" or abs(ratio - 8) > 1e-3:
    raise SystemExit("transformers heeds the factors now")
PY
