"""Do two load tools that people use say of the same streams what their definitions make of the gateway's figures?

`make load-tools`, or `SHIPWAY_LOAD_TOOLS=/path/to/folder python -m pytest -m loadtools`: docs/llm.md says how.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pipelines.serving.calibration.running import TOOL_S, TOOLS, calibrated, report_of, timed_gateway
from tests.pipelines.serving.calibration.test_recorded_reports import counted_by

FOLDER = os.environ.get("SHIPWAY_LOAD_TOOLS", "")
STREAMS = 12
pytestmark = [
    pytest.mark.loadtools,
    pytest.mark.timeout(2 * TOOL_S),
    pytest.mark.skipif(not FOLDER, reason="SHIPWAY_LOAD_TOOLS names a folder with the environments of load tools"),
]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_load_tool_agrees_with_the_gateway_by_its_own_definitions(tool, tiny_generator, tmp_path):
    """The gateway's figures are those of the server's clock, and the tool's follow from them."""
    with timed_gateway(tmp_path) as (bench, url):
        target = f"http://127.0.0.1:{bench.port}"
        report = report_of(tool, Path(FOLDER), target, tiny_generator, tmp_path / "tool", STREAMS)
        figures = calibrated(bench, url, STREAMS)
    assert report.streams == STREAMS
    assert report.disagreements(figures, counted_by(tool, tiny_generator)) == []
