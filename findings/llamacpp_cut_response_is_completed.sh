#!/usr/bin/env bash
# llama.cpp's server answers /v1/responses with status "completed" where it stopped at max_output_tokens.
#
# Versions: xllamacpp 2026.10.11549 (llama.cpp's server in a wheel), gguf 0.19.0; seen on 2026-11-30, Linux, CPU.
# A good guess: OpenAI's API says status "incomplete" with incomplete_details.reason "max_output_tokens", and the same
# server says finish_reason "length" to the same question at /v1/chat/completions.
# Seen: "completed", incomplete_details null or absent, output_tokens equal to the limit; in the stream the last event is
# response.completed. Who counts cut answers at /v1/responses sees none.
# Fails when that changes. Needs python3 (3.10 or newer) and a package index; everything else is in a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'xllamacpp==2026.10.11549' 'gguf==0.19.0' 'numpy<3'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import json
import urllib.request

import gguf
import numpy as np
import xllamacpp

# A llama of one layer with random weights; its tokenizer knows bytes and three markers.
width, heads, hidden, rng = 64, 4, 128, np.random.default_rng(1)
words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(chr(letter) for letter in range(97, 123))]
kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * 26
made = gguf.GGUFWriter("tiny.gguf", "llama")
made.add_context_length(256)
made.add_embedding_length(width)
made.add_block_count(1)
made.add_feed_forward_length(hidden)
made.add_head_count(heads)
made.add_head_count_kv(heads)
made.add_layer_norm_rms_eps(1e-5)
made.add_rope_dimension_count(width // heads)
made.add_vocab_size(len(words))
made.add_tokenizer_model("llama")
made.add_token_list(words)
made.add_token_scores([0.0] * len(words))
made.add_token_types(kinds)
made.add_bos_token_id(1)
made.add_eos_token_id(2)
made.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def matrix(name, rows, columns):
    made.add_tensor(name, rng.normal(0, 0.1, (rows, columns)).astype(np.float32))


for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
    made.add_tensor(name, np.ones(width, dtype=np.float32))
matrix("token_embd.weight", len(words), width)
matrix("output.weight", len(words), width)
for part in ("q", "k", "v", "output"):
    matrix(f"blk.0.attn_{part}.weight", width, width)
matrix("blk.0.ffn_gate.weight", hidden, width)
matrix("blk.0.ffn_up.weight", hidden, width)
matrix("blk.0.ffn_down.weight", width, hidden)
made.write_header_to_file()
made.write_kv_data_to_file()
made.write_tensors_to_file()
made.close()

params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.port = "tiny.gguf", 256, 1, 0
params.verbosity = 1
server = xllamacpp.Server(params)
never_end = {"logit_bias": [[2, False]], "temperature": 0}


def asked(path, body):
    request = urllib.request.Request(
        server.listening_address + path, json.dumps({**body, **never_end}).encode(), {"content-type": "application/json"}
    )
    return urllib.request.urlopen(request, timeout=60).read()


chat = json.loads(asked("/v1/chat/completions", {"messages": [{"role": "user", "content": "abc"}], "max_tokens": 4}))
response = json.loads(asked("/v1/responses", {"input": "abc", "max_output_tokens": 4}))
stream = asked("/v1/responses", {"input": "abc", "max_output_tokens": 4, "stream": True}).decode()
kinds = [line.removeprefix("event: ") for line in stream.splitlines() if line.startswith("event: ")]
seen = {
    "chat": chat["choices"][0]["finish_reason"],
    "status": response["status"],
    "details": response.get("incomplete_details"),
    "tokens": response["usage"]["output_tokens"],
    "last event": kinds[-1],
}
print(json.dumps(seen))
expected = {"chat": "length", "status": "completed", "details": None, "tokens": 4, "last event": "response.completed"}
assert seen == expected, f"it changed: {expected} was seen before"
PY
