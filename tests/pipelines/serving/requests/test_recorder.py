"""What is kept of clients' requests, what never is, and what that costs them."""

from __future__ import annotations

import gzip
import json
import sqlite3
import stat
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.records.settings import Recording
from pipelines.serving.requests.assignment import Rule
from pipelines.serving.requests.record_file import Naming, erase, recorded_numbers, recorded_requests
from pipelines.serving.requests.recorder import MOST_WAITING, Recorder, redacted
from tests.pipelines.serving.requests.asked import asked
from tests.waiting import until

INFER = "/v2/models/m/infer"
HEADERS = {
    "content-type": "application/json",
    "authorization": "Bearer s3cret",
    "cookie": "session=s3cret",
    "x-api-key": "s3cret",
    "proxy-authorization": "Basic s3cret",
    "x-my-own-token": "s3cret",
}
ALL = Recording(share=1.0)


@contextmanager
def recording(path, how=ALL):
    """A recorder that has written everything when the block ends."""
    counts = Counter()
    recorder = Recorder(path, how, lambda outcome: counts.update([outcome]))
    try:
        yield recorder, counts
    finally:
        recorder.close()


def kept(path):
    """Everything that is kept."""
    return list(recorded_requests(path, recorded_numbers(path)).values())


def test_what_a_client_sent_is_kept(tmp_path):
    """Method, path, kind, body and time; the query, which may hold a key, is not."""
    with recording(tmp_path / "s.db") as (recorder, counts):
        recorder.saw(asked("POST", f"{INFER}?api_key=s3cret", HEADERS, b'{"a": 1}'), b"r1")
    (found,) = kept(tmp_path / "s.db")
    assert (found.method, found.path, found.body) == ("POST", INFER, b'{"a":1}')
    assert found.headers == {"content-type": "application/json"}
    assert abs(found.at_s - time.time()) < 60
    assert counts == {"recorded": 1}


def test_no_credential_reaches_the_disk(tmp_path):
    """Under whatever name: only a few headers are kept at all."""
    with recording(tmp_path / "s.db") as (recorder, _):
        recorder.saw(asked("POST", INFER, HEADERS, b"{}"), b"r1")
    assert b"s3cret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_the_record_is_private(tmp_path):
    """Mode 0600, from the first byte on and after it was changed."""
    for _ in range(2):
        with recording(tmp_path / "s.db") as (recorder, _):
            recorder.saw(asked("POST", INFER, HEADERS, b"{}"), b"r1")
        assert stat.S_IMODE((tmp_path / "s.db").stat().st_mode) == 0o600
        (tmp_path / "s.db").chmod(0o644)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", INFER, b"{}"),
        ("POST", "/feedback", b"{}"),
        ("POST", "/v2/models/m", b"{}"),
        ("POST", f"{INFER}/more", b"{}"),
        ("POST", INFER, b""),
        ("POST", INFER, b'"' + b"x" * 70_000 + b'"'),
        ("POST", INFER, b"not JSON"),
        ("POST", INFER, b"\xff\xfe"),
    ],
)
def test_what_is_no_small_inference_request_in_json_is_not_kept(tmp_path, method, path, body):
    """What cannot be redacted is not kept either."""
    with recording(tmp_path / "s.db") as (recorder, _):
        recorder.saw(asked(method, path, HEADERS, body), b"r1")
    assert kept(tmp_path / "s.db") == []


@pytest.mark.parametrize(
    "path", ["/invocations", "/v1/chat/completions", "/v1/embeddings", "/v2/models/m/versions/3/infer"]
)
def test_every_inference_endpoint_is_kept(tmp_path, path):
    """Open Inference Protocol, MLflow's scoring, and OpenAI's."""
    with recording(tmp_path / "s.db") as (recorder, _):
        recorder.saw(asked("POST", path, HEADERS, b"{}"), b"r1")
    assert [found.path for found in kept(tmp_path / "s.db")] == [path]


def test_replayed_requests_are_not_recorded_again(tmp_path):
    """A record of replays would be a record of itself."""
    with recording(tmp_path / "s.db") as (recorder, _):
        recorder.saw(asked("POST", INFER, {**HEADERS, "x-shipway-replay": "1"}, b"{}"), b"r1")
    assert kept(tmp_path / "s.db") == []


def test_compressed_bodies_are_kept_in_plain(tmp_path):
    """So that they can be redacted; one that inflates beyond the limit is not kept."""
    how = Recording(share=1.0, redact=("body.name",), max_body_bytes=200)
    headers = {**HEADERS, "content-encoding": "gzip"}
    with recording(tmp_path / "s.db", how) as (recorder, counts):
        recorder.saw(asked("POST", INFER, headers, gzip.compress(b'{"name": "Ada"}', mtime=0)), b"r1")
        recorder.saw(asked("POST", INFER, headers, gzip.compress(b'"' + b" " * 20_000 + b'"', mtime=0)), b"r1")
    (found,) = kept(tmp_path / "s.db")
    assert (found.body, found.headers) == (b'{"name":"redacted"}', {"content-type": "application/json"})
    assert counts == {"recorded": 1, "skipped": 1}


def test_declared_fields_never_reach_the_disk(tmp_path):
    """Through lists, in nested objects, of every type; a header, too."""
    how = Recording(share=1.0, redact=("body.user", "body.inputs.data", "body.rows.0.iban", "Accept-Language"))
    body = {
        "user": {"name": "Ada s3cret"},
        "inputs": [{"name": "text", "shape": [2], "data": ["s3cret", "s3cret"]}],
        "rows": [{"iban": "s3cret"}, {"iban": 17}],
    }
    with recording(tmp_path / "s.db", how) as (recorder, _):
        recorder.saw(asked("POST", INFER, {"accept-language": "s3cret"}, json.dumps(body).encode()), b"r1")
    (found,) = kept(tmp_path / "s.db")
    assert json.loads(found.body) == {
        "user": {},
        "inputs": [{"name": "text", "shape": [2], "data": ["redacted", "redacted"]}],
        "rows": [{"iban": "redacted"}, {"iban": 0}],
    }
    assert found.headers == {"accept-language": "redacted"}
    assert b"s3cret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(json_values, st.lists(st.sampled_from("abc"), min_size=1, max_size=3))
def test_redaction_keeps_types_and_leaves_the_rest(value, path):
    """Markers have the type of what they stand for, a second time changes nothing, and nothing else is touched."""
    found = redacted(value, path)
    assert redacted(found, path) == found
    assert type(found) is type(value)
    if isinstance(value, dict):
        assert {k: v for k, v in found.items() if k != path[0]} == {k: v for k, v in value.items() if k != path[0]}
        assert [type(found[k]) for k in value] == [type(value[k]) for k in value]


def test_the_record_never_exceeds_its_bounds(tmp_path):
    """The newest are kept, over restarts too, and the file does not grow with what went."""
    how, sizes = Recording(share=1.0, keep=20, max_body_bytes=1000), []
    for _ in range(4):
        with recording(tmp_path / "s.db", how) as (recorder, _):
            for i in range(MOST_WAITING):
                recorder.saw(asked("POST", INFER, {}, json.dumps("x" * 900 + str(i)).encode()), b"r1")
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
    numbers = recorded_numbers(tmp_path / "s.db")
    assert numbers == tuple(range(4 * MOST_WAITING - 19, 4 * MOST_WAITING + 1))
    assert max(sizes) < 20 * 1000 * 3


def test_fewer_are_kept_where_fewer_are_asked_for(tmp_path):
    """A smaller `keep` counts from the next request on."""
    for keep, expected in ((10, 10), (3, 3)):
        with recording(tmp_path / "s.db", Recording(share=1.0, keep=keep)) as (recorder, _):
            for _ in range(10):
                recorder.saw(asked("POST", INFER, {}, b"{}"), b"r1")
        assert len(kept(tmp_path / "s.db")) == expected


def test_other_rules_of_redaction_begin_anew(tmp_path):
    """What was kept before a field was declared secret still holds it."""
    for redact in ((), ("body.a",)):
        with recording(tmp_path / "s.db", Recording(share=1.0, redact=redact)) as (recorder, _):
            recorder.saw(asked("POST", INFER, {}, b'{"a":"s3cret"}'), b"r1")
    assert [found.body for found in kept(tmp_path / "s.db")] == [b'{"a":"redacted"}']
    assert b"s3cret" not in (tmp_path / "s.db").read_bytes()


def test_a_sample_is_a_sample(tmp_path):
    """About the declared share of many requests."""
    with recording(tmp_path / "s.db", Recording(share=0.2)) as (recorder, counts):
        for _ in range(250):
            recorder.saw(asked("POST", INFER, {}, b"{}"), b"r1")
    assert 20 <= counts["recorded"] + counts["dropped"] <= 90


def test_more_than_can_wait_is_dropped(tmp_path):
    """Memory is bounded: the request goes on, its copy does not."""
    with recording(tmp_path / "s.db") as (recorder, counts):
        for _ in range(MOST_WAITING * 3):
            recorder.saw(asked("POST", INFER, {}, b"{}"), b"r1")
    assert counts["dropped"] > 0
    assert counts["recorded"] + counts["dropped"] == MOST_WAITING * 3


def test_a_disk_that_refuses_breaks_no_request(tmp_path):
    """Counted, and forgotten; a link that somebody left there is not followed."""
    (tmp_path / "s.db").symlink_to(tmp_path / "elsewhere")
    with recording(tmp_path / "s.db") as (recorder, counts):
        recorder.saw(asked("POST", INFER, {}, b"{}"), b"r1")
    assert counts == {"failed": 1}
    assert not (tmp_path / "elsewhere").exists()


def test_a_record_that_is_none_breaks_no_request(tmp_path):
    """A damaged file is counted as a failure, and read as an error."""
    (tmp_path / "s.db").write_bytes(b"this is no database" * 100)
    with recording(tmp_path / "s.db") as (recorder, counts):
        recorder.saw(asked("POST", INFER, {}, b"{}"), b"r1")
    assert counts == {"failed": 1}
    with pytest.raises(sqlite3.Error):
        recorded_numbers(tmp_path / "s.db")


def test_whatever_a_request_is_nothing_is_raised(tmp_path):
    """A request that is no request at all is counted."""
    with recording(tmp_path / "s.db") as (recorder, counts):
        recorder.saw(None, b"r1")
    assert counts == {"failed": 1}


def test_a_service_that_never_recorded_has_nothing(tmp_path):
    """No file is an empty record, and reading makes none."""
    assert recorded_numbers(tmp_path / "s.db") == ()
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_just_being_made_is_empty(tmp_path):
    """A gateway that starts makes the file, private, before anything stands in it."""
    (tmp_path / "s.db").touch(0o600)
    assert recorded_numbers(tmp_path / "s.db") == ()


def test_what_is_personal_by_its_form_never_reaches_the_disk(tmp_path):
    """Of any text, number or name of a field, by the usual kinds and by one's own patterns."""
    how = Recording(share=1.0, patterns={"customer": r"C-\d{8}"})
    body = {"inputs": ["I am ada@example.com, C-12345678"], "+44 20 7946 0958": 4111111111111111}
    with recording(tmp_path / "s.db", how) as (recorder, _):
        recorder.saw(asked("POST", INFER, {}, json.dumps(body).encode()), b"r1")
    (found,) = kept(tmp_path / "s.db")
    assert json.loads(found.body) == {"inputs": ["I am [email], [customer]"], "[phone]": 0}
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [word for word in (b"ada", b"C-1234", b"7946", b"411111") if word in on_disk] == []


def test_a_field_that_is_said_twice_hides_nothing(tmp_path):
    """What JSON reads is what is kept."""
    with recording(tmp_path / "s.db") as (recorder, _):
        recorder.saw(asked("POST", INFER, {}, b'{"a": "ada@example.com", "a": "x"}'), b"r1")
    assert [found.body for found in kept(tmp_path / "s.db")] == [b'{"a":"x"}']


def test_a_request_on_which_a_pattern_hangs_is_not_kept(tmp_path, monkeypatch):
    """Nobody waits for it, it is counted, and the next one is kept."""
    monkeypatch.setattr("pipelines.serving.requests.recorder.MOST_S", 1.0)
    how = Recording(share=1.0, patterns={"slow": "(x+)+y"})
    with recording(tmp_path / "s.db", how) as (recorder, counts):
        for text in ("x" * 40, "short"):
            recorder.saw(asked("POST", INFER, {}, json.dumps(text).encode()), b"r1")
    assert ([found.body for found in kept(tmp_path / "s.db")], counts) == ([b'"short"'], {"skipped": 1, "recorded": 1})


@pytest.mark.parametrize(
    ("rule", "headers", "body"),
    [
        (Rule("header", "X-User-Id"), {"x-user-id": "ada"}, b"{}"),
        (Rule("cookie", "uid"), {"cookie": "a=b; uid=ada"}, b"{}"),
        (Rule("body", "user.id"), {}, b'{"user": {"id": "ada"}}'),
        (Rule("body", "user.id"), {"content-encoding": "gzip"}, gzip.compress(b'{"user": {"id": "ada"}}', mtime=0)),
    ],
    ids=["header", "cookie", "body", "compressed body"],
)
def test_a_user_is_kept_as_a_hash_and_found_by_it(tmp_path, rule, headers, body):
    """As the service tells users apart, wherever that stands; another one's requests stay."""
    how, path = Recording(share=1.0, redact=("body.user",)), tmp_path / "s.db"
    other = {**headers, "x-user-id": "eve", "cookie": "uid=eve"}
    recorder = Recorder(path, how, lambda _: None, rule)
    recorder.saw(asked("POST", INFER, headers, body), b"r1")
    recorder.saw(asked("POST", INFER, {**other, "content-encoding": ""}, b'{"user": {"id": "eve"}, "n": 2}'), b"r2")
    recorder.close()
    assert b"ada" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    erased = erase(path, [Naming(tmp_path).of_user(b"ada")], time.time())
    assert (erased.requests, erased.unnamed, [json.loads(one.body)["n"] for one in kept(path)]) == (1, 0, [2])


def test_what_waits_to_be_written_is_forgotten_too(tmp_path):
    """It was asked before somebody said so; what the same user asks afterwards is kept."""
    path, rule = tmp_path / "s.db", Rule("header", "x-user-id")
    recorder = Recorder(path, ALL, lambda _: None, rule)
    recorder.saw(asked("POST", INFER, {"x-user-id": "ada"}, b'"before"'), b"r1")
    erase(path, [Naming(tmp_path).of_user(b"ada")], time.time())
    recorder.saw(asked("POST", INFER, {"x-user-id": "ada"}, b'"after"'), b"r2")
    recorder.close()
    assert [found.body for found in kept(path)] == [b'"after"']


def test_a_request_ends_after_its_time_though_no_other_comes(tmp_path, monkeypatch):
    """The gateway looks now and then, with no traffic at all."""
    monkeypatch.setattr("pipelines.serving.requests.recorder.EXPIRE_S", 0.0)
    path = tmp_path / "s.db"
    with recording(path) as (recorder, _):
        recorder.saw(asked("POST", INFER, {}, b'"a secret"'), b"r1")
    assert len(kept(path)) == 1
    with recording(path, replace(ALL, retain_s=1.0)) as (_, counts):
        until(lambda: not kept(path))
    assert (counts, b"a secret" in path.read_bytes()) == ({}, False)
