"""How are reports recorded anew? `SHIPWAY_LOAD_TOOLS=… python -m tests.pipelines.serving.calibration.record_reports`.

By hand, on a quiet machine: each tool asks for some streams through a gateway, and its medians are kept.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.pipelines.model_folders import make_generator
from tests.pipelines.serving.calibration.running import TOOLS, kept_ms, report_of, timed_gateway, told
from tests.pipelines.serving.calibration.test_recorded_reports import REPORTS

STREAMS = 12


def main() -> None:
    """Write every file anew; the gateway's own figures are printed."""
    REPORTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        tokenizer = make_generator(Path(name) / "generator")
        for tool in TOOLS:
            folder = Path(name) / tool
            folder.mkdir()
            with timed_gateway(folder) as (bench, url):
                tools, target = Path(os.environ["SHIPWAY_LOAD_TOOLS"]), f"http://127.0.0.1:{bench.port}"
                report = report_of(tool, tools, target, tokenizer, folder / "tool", STREAMS)
                sys.stdout.write(f"{report}\n  {told(bench)}, kept {kept_ms(url)}\n")
            report.write(REPORTS / f"{tool}.json")


if __name__ == "__main__":
    main()
