#!/usr/bin/env bash
# llama.cpp's server holds a chat to response_format, and takes the same key of a completion without heeding it.
#
# Versions: xllamacpp 2026.10.11549 (llama.cpp's server in a wheel), gguf 0.19.0; seen on 2026-12-01, Linux, CPU.
# A good guess: what one engine enforces at /v1/chat/completions it enforces at /v1/completions, or refuses there: vLLM takes
# response_format at both. Who asks for JSON gets JSON, or an error.
# Seen: with {"type": "json_schema", …, "enum": ["abc"]} the chat of a random model says exactly "abc" in quotes. The
# completion answers 200 and writes as if nothing had been asked, also for {"type": "json_object"}. So a gate on JSON that is
# measured by completions judges something else than users of chats get.
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


def asked(path, **body):
    request = urllib.request.Request(
        server.listening_address + path,
        json.dumps({**body, "temperature": 0}).encode(),
        {"content-type": "application/json"},
    )
    return json.loads(urllib.request.urlopen(request, timeout=60).read())


schema = {"enum": ["abc"]}
form = {"type": "json_schema", "json_schema": {"name": "letters", "schema": schema}}


def is_held(said):
    """Whether the text is the only one that the schema allows."""
    try:
        return json.loads(said) == "abc"
    except ValueError:
        return False


said = {
    "chat": asked(
        "/v1/chat/completions", messages=[{"role": "user", "content": "abc"}], max_tokens=8, response_format=form
    )["choices"][0]["message"]["content"],
    "completion": asked("/v1/completions", prompt="abc", max_tokens=8, response_format=form)["choices"][0]["text"],
    "completion, any JSON": asked(
        "/v1/completions", prompt="abc", max_tokens=8, response_format={"type": "json_object"}
    )["choices"][0]["text"],
}
seen = {name: is_held(text) for name, text in said.items()}
print(json.dumps(seen))
expected = {"chat": True, "completion": False, "completion, any JSON": False}
assert seen == expected, f"it changed: {expected} was seen before"
PY
