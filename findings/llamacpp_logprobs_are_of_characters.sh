#!/usr/bin/env bash
# llama.cpp's server tells fewer log-probabilities than tokens: one for each whole character, none for half of one.
#
# Versions: xllamacpp 2026.10.11549 (llama.cpp's server in a wheel), gguf 0.19.0; seen on 2026-12-01, Linux, CPU.
# A good guess: logprobs.content and completion_probabilities have one entry for each generated token, as OpenAI's API says
# and as the same server does for ASCII. Who scores a text token by token asks for one token (n_predict 1) and reads its
# probabilities.
# Seen: three times U+00E9, each written with two byte tokens, are 6 tokens in usage and 3 entries. Where generation ends in
# the middle of a character (n_predict 1 on its first byte) there is no completion_probabilities at all. Tokens outside of
# ASCII are mostly pieces of characters in vocabularies that fall back to bytes, so the gap grows with the language.
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


seen = {}
for name, text in (("ascii", "aaaaaa"), ("accents", "\u00e9" * 3)):
    grammar = f'root ::= "{text}"'
    chat = asked(
        "/v1/chat/completions",
        messages=[{"role": "user", "content": "abc"}],
        grammar=grammar,
        max_tokens=6,
        logprobs=True,
        top_logprobs=2,
    )
    entries = len(chat["choices"][0]["logprobs"]["content"])
    seen[name] = [chat["choices"][0]["message"]["content"], chat["usage"]["completion_tokens"], entries]
for name, token in (("a letter", "a"), ("half a character", "<0xC3>")):
    forced = [[words.index(token), 1000.0]]
    one = asked("/completion", prompt="abc", n_predict=1, n_probs=3, logit_bias=forced)
    seen[name] = [one["tokens_predicted"], len(one.get("completion_probabilities", []))]
print(json.dumps(seen))
expected = {"ascii": ["aaaaaa", 6, 6], "accents": ["\u00e9" * 3, 6, 3], "a letter": [1, 1], "half a character": [1, 0]}
assert seen == expected, f"it changed: {expected} was seen before"
PY
