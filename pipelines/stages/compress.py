"""Is there a smaller or faster variant that the same gates accept?"""

from __future__ import annotations

from dataclasses import replace

from evals.gate import Outcome, Reason, Verdict
from evals.offline.gain import Gain, judge_gain
from evals.offline.suite import SuiteFailed
from pipelines.compress.technique import Technique
from pipelines.records.release import Phase, Release
from pipelines.records.settings import ServerSettings
from pipelines.stages.evaluate import judge_subject, source_of
from pipelines.stages.workshop import Findings, Workshop, entered, seconds
from pipelines.tasks.known import task_of
from pipelines.tasks.task import Subject, TaskRows


def compress(shop: Workshop, release: Release) -> Findings:
    """Is there a smaller or faster variant that the same gates accept? Where not, the source ships, and why.

    What no engine serves as it was registered ships in the form that its task names, if the gates accept that.
    """
    rejected: list[dict[str, str]] = []
    task, rows = task_of(source_of(shop, release).facts), shop.rows(release)
    carrier = task.carrier(shop.spec, rows)
    for technique in (*task.variants(shop.spec, rows), *((carrier,) if carrier else ())):
        try:
            tried, verdict = _tried(shop, release, technique, must_win=technique is not carrier)
        except (RuntimeError, ValueError, OSError, SuiteFailed) as error:
            if technique is carrier:
                raise
            rejected.append({"technique": technique.name, "why": f"it failed: {error}"})
            continue
        if verdict.outcome is Outcome.PASS or technique is carrier:
            return {**tried, "verdict": verdict.as_dict(), "rejected": rejected}
        rejected.append({"technique": technique.name, "why": verdict.because()})
    return {
        **_why_not(rejected),
        "variant": "source",
        "facts": source_of(shop, release).facts,
        "folder": "source",
        "golden": entered(release, Phase.EVALUATED)["golden"],
        "rejected": rejected,
    }


def _tried(shop: Workshop, release: Release, technique: Technique, *, must_win: bool) -> tuple[Findings, Verdict]:
    """What was found of a variant: the gates first, and then, where it must win, whether it does."""
    source = source_of(shop, release)
    made = technique.compress(shop.source, shop.work / technique.name, dict(source.facts))
    recipe = {"engine": made.engine, "variant": technique.name, "recipe": dict(made.recipe), **made.facts}
    variant = Subject(f"{technique.name} variant", made.folder, {**source.facts, **recipe}, source.at)
    rows = shop.rows(release)
    judged = judge_subject(shop, release, variant, rows)
    found = {**judged.as_dict(), "variant": technique.name, "facts": variant.facts, "folder": technique.name}
    if judged.verdict.outcome is not Outcome.PASS or not must_win:
        return found, judged.verdict
    gain = _gain(shop, rows, source, variant)
    won = judge_gain(gain)
    if won.outcome is Outcome.PASS:
        won = replace(won, sentence=f"{technique.name} ships: {won.sentence}")
    return {**found, "gain": gain.as_dict()}, Verdict.of([*judged.verdict.reasons, won])


def _gain(shop: Workshop, rows: TaskRows, source: Subject, variant: Subject) -> Gain:
    """Both on this machine, on the evaluation's rows, with the threads that a server has."""
    threads = ServerSettings(cpus=shop.spec.serve.cpus).threads
    return task_of(source.facts).gain(rows, source, variant, threads, seconds(shop))


def _why_not(rejected: list[dict[str, str]]) -> Findings:
    """A verdict that says why the source ships; nothing where no variant was asked for."""
    said = [(r["technique"], f"{r['technique']} does not ship: {r['why']}") for r in rejected]
    reasons = [Reason(Outcome.PASS, technique, sentence) for technique, sentence in said]
    return {"verdict": Verdict.of(reasons).as_dict()} if reasons else {}
