"""A duration says its unit in its value, and what earlier releases wrote is still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.signals.binned import RateTest
from pipelines.errors import BadInput
from pipelines.rollout.watch import canary_plan
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.rollout import RolloutSpec
from pipelines.spec.serve import ServeSpec
from pipelines.spec.spec_file import parse_spec
from pipelines.spec.values import Part, spec_key

ROOT = Path(__file__).parents[3]
PUBLISHED = tuple(ROOT / "flows" / name / "release.yaml" for name in ("starter", "demo", "demo/llm"))
BASE = """\
model: models:/sentiment/3
service: sentiment
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.5}]
"""
NOW = """\
serve: {timeout: 3s, drain: 1m}
rollout: {hold: 2m, look: 1s, lease: 30s, bake: 10m, deadline: 3h, warmup: 500ms, ask_timeout: 12h, label: 1h}
retain: 2d
"""
FORMERLY = """\
serve: {timeout_s: 3s, drain_s: 1m}
rollout: {hold_s: 2m, look_s: 1s, lease_s: 30s, bake_s: 10m, deadline_s: 3h, warmup_s: 500ms, ask_timeout_s: 12h,
  label_s: 1h}
retain: 2d
"""
RECORD = """
{"bootstrap": false, "compress": "none", "evaluate": {"batch_size": 32, "confidence": 0.95, "data": "rows.csv",
"gates": [{"margin": null, "max": null, "metric": "accuracy", "min": 0.5, "slices": null, "tolerance": 0.0}],
"label": "label", "metrics": ["accuracy", "macro_f1", "ece", "latency_p50_ms", "latency_p95_ms", "size_mb"],
"slices": [], "text": "text"}, "model": "models:/sentiment/3", "package": {"base_image": null, "memory_mb": null,
"pids": 512, "target": "process"}, "registry": {"alias": "champion"}, "retain": 172800.0, "rollout":
{"advance": "timetable", "alpha": 0.01, "alpha_promote": 0.05, "alpha_shares": {"errors": 0.4, "latency": 0.3,
"quality": 0.3, "timeouts": 0.0}, "ask_timeout_s": 43200.0, "assign": null, "bake_s": 600.0, "deadline_s": 10800.0,
"gates": {"between_tokens": null, "drift": {"action": "hold", "max_ratio": 2.0}, "errors": {"margin": 0.01},
"first_token": null, "latency": {"margin": null, "quantiles": [0.5, 0.9, 0.99], "tolerance": 0.05}, "quality": null},
"harm_budget": 20, "hold_s": 120.0, "holdback_pct": 5.0, "label_s": 3600.0, "lease_s": 30.0, "look_s": 1.0,
"min_step_requests": 20, "on_inconclusive": "hold", "on_undecidable": "warn", "replay": null, "shadow": null,
"slices": [], "steps": [{"approve": false, "pct": 5.0}, {"approve": false, "pct": 25.0}, {"approve": false, "pct":
50.0}], "warmup_s": 0.5}, "serve": {"convicted_streams": "finish", "cpus": null, "drain_s": 60.0, "gateway_workers": 1,
"idempotent": [], "port": 0, "record": null, "replicas": 1, "router": "shipway", "timeout_s": 3.0},
"service": "sentiment"}
"""
"""What a Shipway that knew only the former keys wrote into its ledger, and DIGEST beside it."""
DIGEST = "sha256:ae2c77fdf55de4e8e749dea910586dcd7f22c3bd365407b661316b2a8652a6af"
DIGEST_OF_BASE = "sha256:62a27bad4212d754c07ae7ef9335c1706981e2689b26725600beba3b4fbc865c"


def test_a_record_of_an_older_shipway_is_the_same_spec():
    """It loads, whole or in sections, with its digest, and would be written again as it was."""
    spec, raw = ReleaseSpec.model_validate_json(RECORD), json.loads(RECORD)
    assert (spec.digest(), spec.as_dict()) == (DIGEST, raw)
    assert RolloutSpec.model_validate_json(json.dumps(raw["rollout"])) == spec.rollout
    assert ServeSpec.model_validate_json(json.dumps(raw["serve"])) == spec.serve


@pytest.mark.parametrize(
    ("keys", "digest"), [(NOW, DIGEST), (FORMERLY, DIGEST), ("", DIGEST_OF_BASE)], ids=["now", "formerly", "none"]
)
def test_a_release_is_found_again_by_either_spelling(keys, digest):
    """The digest is that of the older Shipway, which counts every value and no spelling."""
    assert parse_spec(BASE + keys).digest() == digest


@pytest.mark.parametrize(("key", "usual", "other"), [("metrics", "private", "public"), ("arm_header", True, False)])
def test_a_key_that_came_later_is_written_where_it_is_unusual(key, usual, other):
    """To say what is usual changes no digest; to say another thing does, and is read back."""
    said, unusual = (parse_spec(BASE + f"serve: {{{key}: {json.dumps(value)}}}\n") for value in (usual, other))
    assert (said.digest(), key in said.as_dict()["serve"]) == (DIGEST_OF_BASE, False)
    assert (unusual.digest() != DIGEST_OF_BASE, unusual.as_dict()["serve"][key]) == (True, other)
    assert ReleaseSpec.model_validate_json(json.dumps(unusual.as_dict())) == unusual


OPENAI = "serve: {api: openai, objective: {ttft: 800ms}}\n"


@pytest.mark.parametrize(
    ("usual", "unusual"),
    [
        ("serve: {api: inference, objective: null}\n", OPENAI),
        (
            "rollout: {gates: {goodput: null, answers: null}}\n",
            OPENAI + "rollout: {gates: {goodput: {}, answers: {}}}\n",
        ),
        ("rollout: {alpha_shares: {goodput: 0.3, answers: 0.2}}\n", "rollout: {alpha_shares: {goodput: 0.1}}\n"),
    ],
)
def test_what_language_models_need_changes_no_other_release(usual, unusual):
    """What an older Shipway wrote is found again; what is said is read back."""
    asked = parse_spec(BASE + unusual)
    assert parse_spec(BASE + usual).digest() == DIGEST_OF_BASE
    assert (asked.digest() != DIGEST_OF_BASE, ReleaseSpec.model_validate_json(json.dumps(asked.as_dict()))) == (
        True,
        asked,
    )


@pytest.mark.parametrize(
    ("said", "judged"),
    [
        ("", {"first_token", "between_tokens"}),
        ("rollout: {bake: 0}\n", {"first_token", "between_tokens"}),
        ("rollout: {gates: {first_token: null}}\n", {"between_tokens"}),
        ("rollout: {gates: {latency: {}}}\n", {"latency"}),
    ],
)
def test_whole_answers_of_language_models_are_judged_where_it_is_said(said, judged):
    """They are as long as what is said in them. What is asked instead is in the record, and stays what it was."""
    spec = parse_spec(BASE + OPENAI + said)
    assert {"latency", "first_token", "between_tokens"} & {*canary_plan(spec.rollout).shares} == judged
    assert ReleaseSpec.model_validate_json(json.dumps(spec.as_dict())) == spec


def test_gates_of_language_models_reach_the_judge():
    """Each with its tolerance; the shares of what is judged sum to one."""
    gates = "rollout: {gates: {goodput: {margin: 0.1}, answers: {tolerance: 0.5, about: [empty, cut]}}}\n"
    plan = canary_plan(parse_spec(BASE + OPENAI + gates).rollout)
    assert plan.rates == {"goodput": RateTest(0.25, 0.1), "empty": RateTest(0.5), "cut": RateTest(0.5)}
    assert sum(plan.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("serve: {objective: {ttft: 1s}}\n", "E_CONFIG"),
        ("serve: {api: openai}\nrollout: {gates: {goodput: {}}}\n", "E_CONFIG"),
        ("rollout: {gates: {answers: {}}}\n", "E_CONFIG"),
        ("serve: {api: openai, objective: {}}\n", "E_CONFIG"),
        ("serve: {api: openai, objective: {ttft: 0}}\n", "E_CONFIG"),
        ("serve: {api: openai, objective: {ttft: soon}}\n", "E_DURATION"),
        ("serve: {api: grpc}\n", "E_CONFIG"),
        (OPENAI + "rollout: {gates: {answers: {about: []}}}\n", "E_THRESHOLD"),
        (OPENAI + "rollout: {gates: {answers: {about: [rude]}}}\n", "E_THRESHOLD"),
        (OPENAI + "rollout: {gates: {goodput: {margin: 1.5}}}\n", "E_THRESHOLD"),
    ],
)
def test_half_a_wish_about_language_models_is_refused(text, code):
    """By a stable code, before anything happens."""
    with pytest.raises(BadInput) as caught:
        parse_spec(BASE + text)
    assert caught.value.code == code


@pytest.mark.parametrize("keys", [NOW, FORMERLY, RECORD], ids=["now", "formerly", "record"])
def test_a_key_is_the_attribute_in_seconds(keys):
    """Whatever it is called in the file."""
    spec = parse_spec(keys if keys == RECORD else BASE + keys)
    plan = spec.rollout
    assert (spec.serve.timeout_s, spec.serve.drain_s, plan.ask_timeout_s, plan.label_s) == (3, 60, 43200, 3600)
    assert (plan.hold_s, plan.look_s, plan.lease_s, plan.bake_s, plan.warmup_s) == (120, 1, 30, 600, 0.5)


def test_a_number_without_a_unit_is_seconds():
    """As it always was."""
    assert parse_spec(BASE + "rollout: {hold: 90}\n").rollout.hold_s == 90


@pytest.mark.parametrize(
    ("text", "field"),
    [("rollout: {hold: 5m, hold_s: 5m}\n", "rollout.hold_s"), ("serve: {drain_s: 1m, drain: 2m}\n", "serve.drain_s")],
)
def test_both_spellings_at_once_are_refused_by_name(text, field):
    """Also where they say the same; the former one is what should go."""
    with pytest.raises(BadInput) as caught:
        parse_spec(BASE + text)
    former = field.split(".")[1]
    assert (caught.value.code, caught.value.field) == ("E_CONFIG", field)
    assert caught.value.reason == f"{spec_key(former)!r} and {former!r} are the same, and both stand here"
    assert caught.value.hint == f"leave out {former!r}, which is the former name"


@pytest.mark.parametrize("key", ["hold", "hold_s"])
def test_a_wrong_value_is_named_by_the_key_that_was_written(key):
    """Whichever it was."""
    with pytest.raises(BadInput, match="'5 parsecs' is not a duration") as caught:
        parse_spec(BASE + f"rollout: {{{key}: 5 parsecs}}\n")
    assert (caught.value.code, caught.value.field) == ("E_DURATION", f"rollout.{key}")


@pytest.mark.parametrize(
    ("rollout", "reason"),
    [
        ("look: 100ms", "look must be at least 200ms"),
        ("look: 30", "lease 60 s must be at least 6 looks (180 s)"),
        ("deadline: 5m", "deadline is shorter than all steps and the bake together"),
    ],
)
def test_times_that_do_not_fit_are_named_as_a_spec_names_them(rollout, reason):
    """Not by an attribute that nobody finds in his file."""
    with pytest.raises(BadInput) as caught:
        parse_spec(BASE + f"rollout: {{{rollout}}}\n")
    assert caught.value.reason == reason


@pytest.mark.parametrize("part", Part.__subclasses__())
def test_every_duration_has_a_key_of_its_own(part):
    """Attributes of type Seconds end in `_s`, no others do (`retain` never did), and no two attributes share a key."""
    types = part.__annotations__
    odd = [name for name in part.model_fields if ("Seconds" in types[name]) != name.endswith("_s")]
    assert odd == (["retain"] if part is ReleaseSpec else [])
    assert len({spec_key(name) for name in part.model_fields}) == len(part.model_fields)


@pytest.mark.parametrize("path", PUBLISHED, ids=["starter", "demo", "demo-llm"])
def test_what_is_published_writes_no_former_key(path):
    """Nor in what is commented out."""
    former = [name for part in (RolloutSpec, ServeSpec) for name in part.model_fields if spec_key(name) != name]
    assert [name for name in former if name in path.read_text()] == []
