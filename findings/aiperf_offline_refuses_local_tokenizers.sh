#!/usr/bin/env bash
# aiperf takes no tokenizer at all where it is told to be offline: not a local folder, nor the one that needs no network.
#
# Versions: aiperf 0.13.0, transformers 5.24.0, huggingface_hub 1.33.0; seen on 2026-12-01, Linux, CPU.
# A good guess: HF_HUB_OFFLINE=1 only forbids to ask the Hub. `--tokenizer` takes, says its help, "model names, filesystem
# paths to tokenizer files, or builtin for a zero-network-access tokenizer", so that a path, or `builtin`, is what a machine
# without a network is given; transformers reads the same folder with HF_HUB_OFFLINE=1.
# Seen: with HF_HUB_OFFLINE=1 (or TRANSFORMERS_OFFLINE=1) a path is looked for as the name of a repository in the Hub's
# cache, and the run ends before its first request: "Repo id must be in the form 'repo_name' or 'namespace/repo_name'".
# Without the variable the same command works with no network, because the path is then read as one. `builtin` downloads
# its vocabulary when it is first used, and ends so where it cannot. What helps: unset the variable and name a path.
# Fails when that changes. Needs python3 (3.10 or newer) and a package index; everything else is in a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'aiperf==0.13.0' 'transformers==5.24.0' 'huggingface_hub==1.33.0'
cd "$folder"
mkdir own
export TMPDIR="$folder/own" # aiperf leaves folders in it
"$folder/venv/bin/python" - <<'PY'
import json
import os
import pathlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tokenizers import Tokenizer, models, pre_tokenizers

# A tokenizer of single characters, as transformers keeps one in a folder.
made = Tokenizer(models.WordLevel({"?": 0, **{chr(code): code - 31 for code in range(32, 127)}}, unk_token="?"))
made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
local = pathlib.Path("tokenizer").absolute()
local.mkdir()
made.save(str(local / "tokenizer.json"))
told = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?", "eos_token": "?", "model_max_length": 512}
(local / "tokenizer_config.json").write_text(json.dumps(told))


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for text, finish in (("a", None), ("b", "stop")):
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
            event = {"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()


def profiled(name, tokenizer, **more):
    """How many requests one run made with a tokenizer, and what it said; no network but loopback."""
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "HF_HOME": str(local / name)}
    quiet = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    command = [pathlib.Path(sys.executable).with_name("aiperf"), "profile", "-m", "m", "--tokenizer", tokenizer]
    command += ["--url", f"http://127.0.0.1:{server.server_port}", "--endpoint-type", "chat", "--streaming"]
    command += ["--request-count", "1", "--num-dataset-entries", "1", "--isl", "4", "--osl", "2", "--ui-type", "none"]
    command += ["--no-gpu-telemetry", "--no-server-metrics", "--artifact-dir", name]
    env = {**quiet, **nowhere, "TIKTOKEN_CACHE_DIR": str(local / name / "tiktoken"), **more}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    report = pathlib.Path(name, "profile_export_aiperf.json")
    requests = int(json.loads(report.read_text())["request_count"]["avg"]) if report.exists() else 0
    said = done.stdout + done.stderr
    words = {"HFValidationError": "taken for a repository", "o200k_base.tiktoken": "tried to download"}
    return [requests, next((why for word, why in words.items() if not requests and word in said), "")]


read = "from transformers import AutoTokenizer as T; import sys; print(len(T.from_pretrained(sys.argv[1]).encode('abc')))"
offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
seen = {
    "transformers, a path, offline": int(
        subprocess.run([sys.executable, "-c", read, local], capture_output=True, text=True, env=offline).stdout
    ),
    "aiperf, a path": profiled("one", local),
    "aiperf, a path, offline": profiled("two", local, HF_HUB_OFFLINE="1"),
    "aiperf, builtin": profiled("three", "builtin"),
}
print(json.dumps(seen))
expected = {
    "transformers, a path, offline": 3,
    "aiperf, a path": [1, ""],
    "aiperf, a path, offline": [0, "taken for a repository"],
    "aiperf, builtin": [0, "tried to download"],
}
assert seen == expected, f"it changed: {expected} was seen before"
PY
