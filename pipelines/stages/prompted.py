"""What does a release add to its requests? Pinned when it begins: a registry may lose, or change, what it named."""

from __future__ import annotations

from pipelines.errors import BadInput, DependencyDown, NotFound
from pipelines.records.release import Release
from pipelines.records.split import Rewrite, frozen_sampling
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.supply.prompt import PromptRegistry, StoredPrompt, check_template

REWRITE = "rewrite"
"""What facts and records call it."""


def rewrite_of(spec: ReleaseSpec, prompts: PromptRegistry) -> Rewrite | None:
    """What the spec asks for, as it is now. NotFound or BadInput E_PROMPT where its prompt is not there, or no use."""
    prompt, sampling = spec.prompt, spec.sampling
    if prompt is None and sampling is None:
        return None
    found = prompts.load(prompt.uri) if prompt is not None and prompt.uri else _own(spec)
    if prompt is not None:
        check_template(found.text, found.messages)
    said = {**found.sampling, **dict(sampling.said if sampling else ())}
    return Rewrite(
        prompt=found.uri,
        text=found.text,
        messages=found.messages,
        sampling=frozen_sampling(said),
        overrides=bool(sampling and sampling.override),
        by_application=bool(prompt and prompt.apply == "application"),
        variables=prompt.variables if prompt is not None else (),
    )


def _own(spec: ReleaseSpec) -> StoredPrompt:
    prompt = spec.prompt
    return StoredPrompt("", prompt.text or "", prompt.pairs) if prompt is not None else StoredPrompt("")


def sentence_of(rewrite: Rewrite) -> str:
    """What is added to requests, in a line."""
    said = []
    if rewrite.has_prompt:
        texts = [rewrite.text, *(text for _, text in rewrite.messages)]
        what = f"{len(rewrite.messages)} messages" if rewrite.messages else "text"
        name = rewrite.prompt or "the spec's prompt"
        by = "written by the application" if rewrite.by_application else "put before each request"
        said.append(f"{name} ({what}, {sum(map(len, texts)):,} characters, {rewrite.digest[:19]}), {by}")
    if rewrite.sampling:
        values = ", ".join(f"{name} {value}" for name, value in rewrite.sampling)
        said.append(
            f"{values}{', whatever a request says' if rewrite.overrides else ' unless a request says otherwise'}"
        )
    return "; ".join(said)


def pinned(release: Release) -> Rewrite | None:
    """What a release was opened with."""
    resolved = release.last("resolved")
    return Rewrite.from_dict(resolved.data.get(REWRITE)) if resolved else None


def since_pinned(rewrite: Rewrite | None, prompts: PromptRegistry) -> str:
    """What became of the prompt in its registry meanwhile; "" where it is as it was. What was pinned is released."""
    if rewrite is None or not rewrite.prompt:
        return ""
    try:
        found = prompts.load(rewrite.prompt)
    except NotFound:
        return f"{rewrite.prompt} is not in the registry any more: its text is as it was when the release began"
    except (BadInput, DependencyDown) as error:
        return f"{rewrite.prompt} could not be read again: {error}"
    if (found.text, found.messages) != (rewrite.text, rewrite.messages):
        return f"{rewrite.prompt} was changed since: its text is as it was when the release began"
    return ""
