"""What do the recognisers of presidio find that know a form? Not its own idea of names: that would need a model.

They run on a blank pipeline of spaCy: no model, no download. The first address that presidio reads it would check
against a list of suffixes from the net; the one that comes with its library is told to it instead. Findings below 0.3
are left out: any number of nine digits is a passport with 0.05.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from pipelines.errors import BadInput

LEAST_SCORE = 0.3
LANGUAGE = "en"


def refuse_without_presidio(recognise: Sequence[str], own: Sequence[str]) -> None:
    """BadInput E_PRIVACY where kinds are asked for that presidio knows, and it is not installed here."""
    foreign = [kind for kind in recognise if kind not in own]
    if foreign and find_spec("presidio_analyzer") is None:
        raise BadInput(
            f"{', '.join(foreign)}: presidio recognises that, and it is not installed",
            code="E_PRIVACY",
            field="serve.record.recognise",
            hint='pip install "shipway[privacy]"',
        )


def presidio_finder(kinds: Sequence[str]) -> Callable[[str], Iterator[tuple[int, int, str]]]:
    """Where these kinds stand, and which. ImportError where presidio is not installed.

    Importing what it needs takes a second of CPU and 100 MB.
    """
    engine, entities = _engine(), list(kinds)

    def find(text: str) -> Iterator[tuple[int, int, str]]:
        for found in engine.analyze(text, LANGUAGE, entities=entities, score_threshold=LEAST_SCORE):
            yield found.start, found.end, found.entity_type

    return find


def _engine() -> Any:
    import spacy
    import tldextract
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    blank = SpacyNlpEngine(models=[{"lang_code": LANGUAGE, "model_name": "blank"}])
    blank.nlp = {LANGUAGE: spacy.blank(LANGUAGE)}
    registry = RecognizerRegistry(supported_languages=[LANGUAGE])
    registry.load_predefined_recognizers(languages=[LANGUAGE])
    return AnalyzerEngine(registry=registry, nlp_engine=blank, supported_languages=[LANGUAGE])
