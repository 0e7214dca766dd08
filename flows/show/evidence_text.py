"""How does a person read the evidence in a terminal?"""

from __future__ import annotations

from pipelines.records.evidence_series import EvidenceSeries, Line

TITLES = {
    "harm": "harm (their weighted mean at 1 sends home)",
    "harmlessness": "harmlessness (1 in every line may promote)",
}


def evidence_text(series: EvidenceSeries) -> str:
    """A table of each metric's evidence, under a sentence that says where the release is and why."""
    lines = [f"{series.id}  {series.model} v{series.version} → {series.service}  {series.phase}: {series.why}"]
    if not series.lines:
        return "\n".join([*lines, "  no user has met it: there is no evidence yet"])
    width = max(len(name) for name in (*TITLES.values(), *(f"  {line.metric}" for line in series.lines)))
    requests = f"{series.canary_requests[-1]} canary and {series.stable_requests[-1]} stable requests judged"
    lines.append(f"  {len(series.looks_s)} looks, {requests}; log E over the boundary's:")
    for of, title in TITLES.items():
        found = [line for line in series.lines if line.of == of]
        if found:
            lines.append(f"  {title:<{width}}  {'last':>7}  {'largest':>7}  crossed")
            lines += [_row(line, width) for line in found]
    return "\n".join(lines)


def _row(line: Line, width: int) -> str:
    last = f"{line.last:.2f}" if line.last is not None else "–"
    when = (
        f"after {line.crossed_s:.0f} s, {line.crossed_at_requests} requests" if line.crossed_s is not None else "never"
    )
    return f"  {f'  {line.metric}':<{width}}  {last:>7}  {line.largest:>7.2f}  {when}"
