"""Can the server in a container read what was put into its image, whoever built it?"""

from __future__ import annotations

import os
import subprocess

from pipelines.adapters.docker import context


def test_what_an_image_is_built_from_is_readable_for_all(tmp_path, monkeypatch):
    """Under the umask of the systemd unit, which keeps a home to its user, another user serves."""
    monkeypatch.setattr(context, "pins", lambda _engine: [])
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    before = os.umask(0o077)
    try:
        context.fill_context(tmp_path, "torch")
    finally:
        os.umask(before)
    app = tmp_path / "app"
    assert (app / "pipelines" / "serving" / "__init__.py").is_file()
    assert {path.stat().st_mode & 0o777 for path in app.rglob("*.py")} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in (app, *app.rglob("*")) if path.is_dir()} == {0o755}


def test_what_an_engine_needs_of_the_system_goes_with_it():
    """Slim bases have no OpenMP, and llama.cpp's wheel does not bring it; the others bring all that they need."""
    found = context.libraries("llamacpp")
    assert [(name, file.is_file()) for name, file in found.items()] == [("libgomp.so.1", True)]
    assert context.libraries("onnxruntime") == {}
