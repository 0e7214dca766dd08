"""How does a release look to a person, a dashboard or a script?"""

from __future__ import annotations

import math
from typing import Any

from evals.signals.counting import COST, NANO, PAID
from evals.signals.strata import GRID_RATIO
from pipelines.records.release import Phase, Release
from pipelines.records.summary import summary_of

ARMS = ("canary", "stable")
_PART = {
    Phase.OPEN: "evaluate",
    Phase.EVALUATED: "compress",
    Phase.COMPRESSED: "build",
    Phase.BUILT: "stage",
    Phase.STAGED: "qualify",
    Phase.QUALIFIED: "canary",
    Phase.CANARY: "canary",
    Phase.BAKING: "bake",
    Phase.PROMOTING: "promote",
}
"""What is being done in each phase that is not an end."""

_DOING = {
    Phase.OPEN: "it is evaluated",
    Phase.EVALUATED: "smaller variants of it are tried",
    Phase.COMPRESSED: "its bundle is built",
    Phase.BUILT: "its server is started",
    Phase.STAGED: "its server is questioned",
    Phase.QUALIFIED: "it waits for its first users",
    Phase.CANARY: "advanced to {pct:g} %",
    Phase.BAKING: "advanced to {pct:g} %, its bake",
    Phase.PROMOTING: "it is being promoted",
}
"""The same in words, for a person."""

_WATCHED = frozenset({Phase.QUALIFIED, Phase.CANARY, Phase.BAKING})
"""Phases in which the reason for waiting is that of the last look."""


def release_view(release: Release) -> dict[str, Any]:
    """The release as plain data: what `status --json` and the API give."""
    candidate, champion = release.candidate, release.champion
    return {
        **summary_of(release).line(),
        "reason": why(release),
        "label": release.label,
        "alias": release.alias,
        "alias_why": release.alias_why,
        "registry_left": [what for e in release.of_kind("registry") for what in e.data.get("left", ())],
        "step": release.step,
        "share_pct": release.confirmed_pct,
        "paused": release.paused,
        "said": last_word(release),
        "asks": str(release.asks) if release.asks else None,
        "candidate": vars(candidate) if candidate else None,
        "champion": dict(champion) if champion else None,
        "phase_seconds": phase_seconds(release),
        "verdicts": _verdicts(release),
        **_pages(release),
        "needs": _needs(release),
        "steps": [{"pct": e.data["pct"], "at": e.at_s} for e in release.of_kind("exposed")],
        **canary_counts(release),
        "cost": cost_of(release),
    }


def _pages(release: Release) -> dict[str, Any]:
    """The pages that show where a judged model differs from the champion, below the home; nothing where none does."""
    kept = [e.data["differences"] for e in release.events if e.data.get("differences")]
    return {"differences": [dict(one) for one in kept]} if kept else {}


def _needs(release: Release) -> dict[str, Any]:
    """What each metric still needed for a promotion at the last look."""
    look = release.last("looked")
    return dict(look.data["verdict"].get("needs", {})) if look is not None else {}


def phase_seconds(release: Release) -> dict[str, float]:
    """How long each part of the path took, in seconds; a part that was gone through twice has both added up."""
    took: dict[str, float] = {}
    phase, since_s = Phase.OPEN, release.started_at_s
    for event in release.of_kind("entered"):
        entered = Phase(event.data["phase"])
        part = "promote" if (phase, entered) == (Phase.QUALIFIED, Phase.PROMOTING) else _PART[phase]
        took[part] = round(took.get(part, 0.0) + event.at_s - since_s, 3)
        phase, since_s = entered, event.at_s
    return took


def canary_counts(release: Release) -> dict[str, int]:
    """Requests and errors of the canary and of stable, over all recorded looks (the warm-up included)."""
    counts = {"canary_requests": 0, "canary_errors": 0, "stable_requests": 0, "stable_errors": 0}
    for event in release.of_kind("looked"):
        for stratum in event.data["strata"]:
            for arm, seen in stratum["arms"].items():
                counts[f"{arm}_requests"] += seen["routed"]
                counts[f"{arm}_errors"] += seen["errors"]
    return counts


def cost_of(release: Release) -> dict[str, Any] | None:
    """What a thousand answers of each arm cost over all recorded looks, in money; None where nothing has a price.

    By tokens: of answers whose engine said how many it took, with what a cache saved, and `without_cache`, which is
    judged. By hours: all devices of an arm, over what they answered at the share that they had.
    """
    price = release.spec.get("serve", {}).get("price")
    if not price:
        return None
    of_hours = price["gpu_hour"] is not None
    arms = {arm: _cost_by_hours(release, arm) if of_hours else _cost_by_tokens(release, arm) for arm in ARMS}
    return {"by": "gpu_hour" if of_hours else "tokens", "currency": price["currency"], **arms}


def _cost_by_tokens(release: Release, arm: str) -> dict[str, float | None]:
    found = {name: [0.0, 0.0] for name in (PAID, COST)}
    for timings in (s["arms"][arm].get("timings", {}) for e in release.of_kind("looked") for s in e.data["strata"]):
        for name in found.keys() & timings:
            left = timings[name]["routed"]
            found[name][0] += left
            for step, over in sorted(timings[name]["exceed"].values()):
                found[name][1] += (left - over) * GRID_RATIO**step
                left = over
    paid, fresh = (1000 * nano / NANO / n if n else None for n, nano in found.values())
    return {"answers": int(found[PAID][0]), "per_1000": paid, "without_cache": fresh}


def _cost_by_hours(release: Release, arm: str) -> dict[str, float | None]:
    strata = [s for e in release.of_kind("looked") for s in e.data["strata"] if s["canary_pct"] > 0]
    hours = sum(s["routed_to"] - s["routed_from"] for s in strata) / 3600
    answers = sum(s["arms"][arm]["routed"] - s["arms"][arm]["errors"] - s["arms"][arm].get("left", 0) for s in strata)
    serve = release.spec["serve"]
    devices = serve.get("replicas", 1) * math.prod(serve.get("parallel", {}).values())
    spent = serve["price"]["gpu_hour"] * devices * hours
    return {"answers": answers, "per_1000": 1000 * spent / answers if answers else None, "devices": devices}


def why(release: Release) -> str:
    """In one sentence: why does it wait, or why did it advance, was it promoted, or did it go home?"""
    if release.is_ended:
        return f"{release.reason}{alias_note(release)}"
    if release.paused:
        return _said(release, "pause") or f"paused by a person at {release.confirmed_pct:g} %"
    look = release.last("looked")
    entered, approved = release.last("entered"), release.last("approved")
    if approved and look and approved.seq > look.seq:
        return _said(release, "approve")
    if release.phase in _WATCHED and look and (entered is None or look.seq > entered.seq):
        return f"waits at {release.confirmed_pct:g} %: {look.data['why']}"
    if release.phase is Phase.QUALIFIED and release.last("replayed"):
        return progress(release)
    doing = _DOING[release.phase].format(pct=release.confirmed_pct)
    return f"{doing}: {release.reason}" if release.reason else doing


_ALIAS_NOTES = {
    "moved": "the registry's alias is somebody else's, and was left alone",
    "gone": "the registry's alias could not be set, because its version is gone",
    "refused": "the registry refused the alias",
    "owed": "the registry's alias is still to be set",
    "given up": "the registry's alias was never set",
}


def alias_note(release: Release) -> str:
    """What to add to a sentence where the alias does not name what serves; "" where it does."""
    said = _ALIAS_NOTES.get(release.alias)
    return f"; {said}: {release.alias_why}" if said else ""


def answer(release: Release) -> str:
    """In one sentence, to a person whose word was obeyed: what did it change?"""
    word = release.last("commanded")
    if release.is_ended or release.phase is Phase.PROMOTING or word is None:
        return release.reason
    return _said(release, word.data["verb"])


def last_word(release: Release) -> str | None:
    """What did a person say last, who was it, and why? None where nobody said anything."""
    event = release.last("commanded")
    if event is None:
        return None
    word = event.data
    what = f"{word['verb']} {word.get('about') or ''}".strip()
    return f"{what} by {word['actor']}" + (f": {word['reason']}" if word["reason"] else "")


def _said(release: Release, verb: str) -> str:
    """The last word of this kind, who said it, and why; or ""."""
    word = next((e.data for e in reversed(release.of_kind("commanded")) if e.data["verb"] == verb), None)
    if word is None:
        return ""
    where = f" at {release.confirmed_pct:g} %"
    done = {"pause": f"paused{where}", "resume": f"resumed{where}", "approve": f"approved {word.get('about')}".strip()}
    return f"{done.get(verb, verb)} by {word['actor']}" + (f": {word['reason']}" if word["reason"] else "")


def _verdicts(release: Release) -> list[dict[str, Any]]:
    """What the gates said, step by step."""
    found = []
    for event in (*release.of_kind("entered"), *release.of_kind("judged")):
        verdict = event.data.get("verdict")
        if verdict:
            step = event.data.get("step_name") or event.data.get("step") or event.data.get("phase")
            found.append({"step": step, "outcome": verdict["outcome"], "reasons": verdict["reasons"]})
    return found


def progress(release: Release) -> str:
    """How many recorded requests were asked, and were kept no more by then; "" where none was chosen."""
    begun = release.last("replaying")
    if begun is None:
        return ""
    parts = release.of_kind("replayed")
    asked, gone = (sum(part.data["asked"] - n * part.data["counts"]["pairs"] for part in parts) for n in (0, 1))
    said = f"replaying: {asked} of {len(begun.data['numbers'])} recorded requests were asked of both versions"
    return f"{said}; {gone} of them were kept no more" if gone else said
