"""What stands in for vLLM where there is none: it takes the same flags, and answers at the same paths.

Only how it is started, told, asked and ended can be seen by it. What vLLM itself does is seen in `test_real_vllm.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

VERSION = "vllm 1.2.3"

PROGRAM = '''
import json, os, pathlib, signal, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if sys.argv[1] == "-I":
    print("VERSION")
    raise SystemExit
home = pathlib.Path(os.environ["HOME"])
(home / "seen.json").write_text(json.dumps({"told": sys.argv[1:], "environment": dict(os.environ)}))
told = dict(flag[2:].split("=", 1) for flag in sys.argv[3:] if "=" in flag)
if told.get("fails"):
    print("(Worker pid=1) ERROR x ValueError: too little memory", flush=True)
    raise SystemExit(1)
CONTEXT = int(told["max-model-len"])
ANSWERS = {
    "/health": "ok",
    "/version": json.dumps({"version": "VERSION".split()[1]}),
    "/v1/models": json.dumps({"data": [{"id": told["served-model-name"], "max_model_len": CONTEXT}]}),
    "/metrics": """# HELP vllm:num_requests_running Number of requests
vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 4.0
""",
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(ANSWERS.get(self.path))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        top = {"token_id:7": -2.5, "token_id:3": -0.5, "token_id:11": -1.5}
        each = [None, -4.0, -0.5, -1.5, -0.5] if body.get("echo") else [-0.5]
        choice = {"text": "x", "finish_reason": "length", "logprobs": {"top_logprobs": [top], "token_logprobs": each}}
        said = {"choices": [choice], "usage": {"completion_tokens": 1}, "asked": body}
        self.answer(json.dumps(said) if body["model"] == told["served-model-name"] else None)

    def answer(self, said):
        self.send_response(200 if said else 404)
        self.end_headers()
        self.wfile.write((said or "{}").encode())

    def log_message(self, *said):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
ThreadingHTTPServer((told["host"], int(told["port"])), Handler).serve_forever()
'''


def stand_in(folder: Path, version: str = VERSION) -> str:
    """A program that can be named as a Python which has vLLM."""
    file = folder / "python"
    file.write_text(f"#!{sys.executable}\n{PROGRAM.replace('VERSION', version)}")
    file.chmod(0o755)
    return str(file)


def lay_site(folder: Path, version: str = VERSION) -> None:
    """The same as a package, with its metadata, in a folder that is copied among those of a Python."""
    package = folder / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    (package / "api_server.py").write_text(
        f'import sys\nsys.argv[1:1] = ["-m", __name__]\n{PROGRAM}'.replace("VERSION", version)
    )
    (folder / "vllm" / "__init__.py").touch()
    name, number = version.split()
    metadata = folder / f"{name}-{number}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")


def seen_by(home: Path) -> dict[str, object]:
    """What it was told, and what it knew of its environment."""
    return json.loads((home / "seen.json").read_text())
