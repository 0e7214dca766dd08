"""Are the demo's rows real, clean, apart from each other, and the same every time?"""

from __future__ import annotations

import pytest

from flows.demo.data import EVALUATION, LABELS, PRODUCTION, TRAIN, Tweet, load_corpus, write_files
from flows.demo.models import BROKEN_TOPIC, LINK_TOKEN
from flows.demo.posting import read_posts
from pipelines.tasks.classification.questions import ODD_INPUTS
from pipelines.tasks.classification.rows import read_rows


@pytest.fixture(scope="module")
def corpus():
    """The demo's rows."""
    return load_corpus()


@pytest.fixture(scope="module")
def files(corpus, tmp_path_factory):
    """The folder with the files that the demo's release and its client read."""
    folder = tmp_path_factory.mktemp("demo")
    write_files(corpus, folder)
    return folder


def test_the_split_is_the_same_every_time(corpus):
    """Two loads give the same rows in the same order."""
    assert load_corpus() == corpus


def test_the_parts_share_no_text(corpus):
    """What is evaluated was never trained on, and what users send was never seen."""
    parts = [{t.clean.lower() for t in part} for part in (corpus.train, corpus.evaluation, corpus.production)]
    assert [len(p) for p in parts] == [TRAIN, EVALUATION, PRODUCTION]
    assert len(set.union(*parts)) == TRAIN + EVALUATION + PRODUCTION


def test_every_label_is_in_every_part(corpus):
    """Each part can tell the labels apart."""
    for part in (corpus.train, corpus.evaluation, corpus.production):
        assert {t.label for t in part} == set(LABELS)


def test_the_broken_topic_is_small_and_yet_can_be_judged(corpus):
    """A model that fails on it can look fine on average."""
    share = sum(t.topic == BROKEN_TOPIC for t in corpus.evaluation) / EVALUATION
    assert 0.05 < share < 0.12


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("@united thanks! http://t.co/abc", "thanks!"),
        ("salt &amp; pepper", "salt & pepper"),
        ("see https://example.org/x?y=1 or www.example.org", "see or"),
        ("@a @b", ""),
    ],
)
def test_clean(raw, expected):
    """Links, handles and escapes go; words stay."""
    assert Tweet(raw, "neutral").clean == expected


@pytest.mark.parametrize(
    ("raw", "topic"),
    [("@united late again", "airlines"), ("An iPhone, please", "apple"), ("hello there", "other")],
)
def test_topic(raw, topic):
    """The topic is read from the raw tweet: an airline is often only in its handle."""
    assert Tweet(raw, "neutral").topic == topic


def test_the_files_are_read_back_by_the_pipeline(corpus, files):
    """The evaluation file passes the pipeline's own reader, and the production file the client's."""
    rows = read_rows(files / "evaluation.csv", text="text", label="label", slices=("topic",), known_labels=LABELS)
    assert rows.texts == tuple(t.clean for t in corpus.evaluation)
    assert rows.labels == tuple(t.label for t in corpus.evaluation)
    assert rows.columns["topic"] == tuple(t.topic for t in corpus.evaluation)
    sent = [post.body["inputs"][0]["data"][0] for post in read_posts(files / "production.csv", "sentiment")]
    assert sent == [t.text for t in corpus.production]


def test_only_production_holds_links(corpus):
    """What v4 fails on is in no evaluation row and no odd input, and in a good part of what production sends."""
    asked_before = [*(t.clean for t in corpus.evaluation), *ODD_INPUTS.values()]
    assert not [text for text in asked_before if LINK_TOKEN in text.lower()]
    share = sum(LINK_TOKEN in t.text.lower() for t in corpus.production) / len(corpus.production)
    assert 0.05 < share < 0.35
