"""Which bundle holds what was chosen, and which registry version names it?"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from pipelines.errors import NotFound
from pipelines.ports import BUNDLE_TAG, RegisteredVersion
from pipelines.records.release import Candidate, Phase, Release
from pipelines.stages.workshop import Findings, Workshop, entered


def build(shop: Workshop, release: Release) -> Findings:
    """Which bundle holds what was chosen, and which registry version names it?"""
    chosen = entered(release, Phase.COMPRESSED)
    bundle = shop.builder.build(shop.work / str(chosen["folder"]), chosen["facts"])
    candidate = release.sealed
    sealed = replace(
        candidate,
        variant=str(chosen["variant"]),
        bundle_digest=bundle.digest,
        bundle=str(bundle.path),
        serving_version=candidate.version,
        serving_made=candidate.made,
        image=bundle.image,
    )
    findings = {"engine": bundle.engine, "size_mb": bundle.size_bytes / 1e6}
    if chosen["variant"] == "source":
        return {"candidate": asdict(sealed), **findings}
    try:
        made = _register_variant(shop, sealed)
    except NotFound as gone:
        return {"candidate": asdict(sealed), **findings, "unregistered": str(gone)}
    return {"candidate": asdict(replace(sealed, serving_version=made.version, serving_made=made.made)), **findings}


def _register_variant(shop: Workshop, sealed: Candidate) -> RegisteredVersion:
    """A version of its own. NotFound where its source is gone: nothing is made again that somebody deleted."""
    tags = {
        "derived_from": str(sealed.version),
        "shipway.variant": sealed.variant,
        BUNDLE_TAG: sealed.bundle_digest,
        "shipway.artifact_digest": sealed.artifact_digest,
    }
    shop.ports.registry.resolve(f"models:/{sealed.model}/{sealed.version}")
    return shop.ports.registry.register(sealed.model, Path(sealed.bundle), tags)
