"""What do we do about it? Decides (pure functions) and acts (adapters); never imports Prefect."""

import os

# ONNX Runtime sends events about models to its maker since 1.29, unless this stands before its library is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
