"""What a release.yaml may say, and how a wrong one is answered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.canary.plan import ALPHA_SHARES
from pipelines.errors import BadInput
from pipelines.rollout.watch import canary_plan
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.spec_file import parse_spec, read_spec

BASE = """\
model: models:/sentiment/3
service: sentiment
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.5}]
"""


def test_the_smallest_spec_has_sensible_defaults():
    """Model, service, data and one gate are enough."""
    spec = parse_spec(BASE)
    assert [step.pct for step in spec.rollout.steps] == [5, 25, 50]
    assert spec.rollout.alpha == 0.01
    assert canary_plan(spec.rollout).alpha_shares == {**ALPHA_SHARES, "timeouts": 0.0}
    assert spec.model_name == "sentiment"


def test_a_spec_survives_its_record():
    """What the ledger keeps reads back as the same spec with the same digest."""
    spec = parse_spec(BASE + "rollout: {steps: [5, {pct: 50, approve: true}], hold: 2m}\n")
    again = ReleaseSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.digest() == spec.digest()
    assert spec.rollout.hold_s == 120


def test_what_to_do_while_another_runs_is_no_part_of_what_is_released():
    """The same release is found again whatever is said about waiting, and one of a Shipway that did not know it."""
    said = parse_spec(BASE + "on_busy: queue\n")
    assert (said.on_busy, said.digest(), "on_busy" in said.as_dict()) == ("queue", parse_spec(BASE).digest(), False)
    with pytest.raises(BadInput, match="refuse"):
        parse_spec(BASE + "on_busy: hope\n")


def test_the_command_line_replaces_the_model():
    """`--model` wins over the file's."""
    assert parse_spec(BASE, model="models:/sentiment@challenger").model == "models:/sentiment@challenger"


def test_the_margin_on_live_labels_holds_on_the_evaluations_rows_too():
    """One gate, twice asked; a stricter one of the evaluation's own stands in its place."""
    quality = "rollout: {gates: {quality: {margin: 0.03}}}\n"
    assert [(g.metric, g.margin) for g in parse_spec(BASE + quality).offline_gates()] == [
        ("accuracy", None),
        ("accuracy", 0.03),
    ]
    own = BASE.replace("min: 0.5", "margin: 0.01") + quality
    assert [(g.metric, g.margin) for g in parse_spec(own).offline_gates()] == [("accuracy", 0.01)]
    live_only = BASE + "rollout: {gates: {quality: {margin: 0.03, metric: null}}}\n"
    assert [g.margin for g in parse_spec(live_only).offline_gates()] == [None]


def test_users_that_stay_at_their_arm_are_what_is_counted():
    """Once in each step, the bake included; by default each request counts."""
    plan = parse_spec(BASE + "rollout: {steps: [5, 25], assign: {by: cookie, name: id}}\n").rollout
    assert plan.assign is not None
    assert (plan.assign.rule, canary_plan(plan).unit, canary_plan(plan).periods) == ("cookie:id", "user", 3)
    assert canary_plan(parse_spec(BASE).rollout).unit == "request"


def test_the_former_word_for_margin_is_still_read():
    """Records of earlier releases say max_drop."""
    assert parse_spec(BASE.replace("min: 0.5", "max_drop: 0.02")).evaluate.gates[0].margin == 0.02


def test_alpha_is_shared_as_the_spec_says():
    """Timeouts can have a part of their own; what is not judged hands its part on."""
    spec = parse_spec(BASE + "rollout: {alpha_shares: {errors: 0.5, timeouts: 0.25, latency: 0}}\n")
    shares = canary_plan(spec.rollout).shares
    assert {name: round(share, 4) for name, share in shares.items()} == {"errors": 0.6667, "timeouts": 0.3333}


BAD = {
    "nothing of alpha for errors": (
        BASE + "rollout: {alpha_shares: {errors: 0}}\n",
        "E_CONFIG",
        "rollout.alpha_shares.errors",
        "",
    ),
    "an unknown metric of alpha": (
        BASE + "rollout: {alpha_shares: {errors: 0.5, speed: 0.5}}\n",
        "E_CONFIG",
        "rollout.alpha_shares.speed",
        "",
    ),
    "quality is not measured": (
        BASE.replace("  data:", "  metrics: [macro_f1]\n  data:").replace("metric: accuracy", "metric: macro_f1")
        + "rollout: {gates: {quality: {}}}\n",
        "E_CONFIG",
        "",
        "",
    ),
    "tolerance above margin": (
        BASE.replace("min: 0.5", "margin: 0.02, tolerance: 0.03"),
        "E_THRESHOLD",
        "evaluate.gates.0",
        "",
    ),
    "margin of one": (
        BASE + "rollout: {gates: {errors: {margin: 1}}}\n",
        "E_THRESHOLD",
        "rollout.gates.errors.margin",
        "",
    ),
    "unknown key": (BASE + "rolout: {}\n", "E_CONFIG", "rolout", "rollout"),
    "unknown nested key": (BASE + "rollout: {holds: 3}\n", "E_CONFIG", "rollout.holds", "hold'?"),
    "path in the name": (BASE.replace("models:/sentiment/3", "models:/../x/3"), "E_NAME", "model", ""),
    "shell in the name": (BASE.replace("service: sentiment", 'service: "a; touch x"'), "E_NAME", "service", ""),
    "substitution in the name": (BASE.replace("service: sentiment", 'service: "$(id)"'), "E_NAME", "service", ""),
    "newline in the name": (BASE.replace("service: sentiment", 'service: "a\\nb"'), "E_NAME", "service", ""),
    "look-alike in the name": (BASE.replace("service: sentiment", "service: sеntiment"), "E_NAME", "service", ""),
    "version zero": (BASE.replace("sentiment/3", "sentiment/0"), "E_VERSION", "model", ""),
    "version latest": (BASE.replace("sentiment/3", "sentiment/latest"), "E_VERSION", "model", ""),
    "alias with a space": (BASE.replace("sentiment/3", "sentiment@a b"), "E_ALIAS", "model", ""),
    "wrong unit": (BASE + "retain: 5 parsecs\n", "E_DURATION", "retain", ""),
    "negative duration": (BASE + "retain: -1\n", "E_DURATION", "retain", ""),
    "endless duration": (BASE + "retain: 1000000000h\n", "E_DURATION", "retain", ""),
    "tag": (BASE + "x: !!python/object:os.system y\n", "E_YAML", "release.yaml", ""),
    "binary": (BASE + "retain: !!binary aGVsbG8=\n", "E_YAML", "retain", ""),
    "duplicate key": (BASE + "service: other\n", "E_YAML", "release.yaml", ""),
    "anchor": ("a: &x [1]\nb: *x\n", "E_YAML", "release.yaml", ""),
    "tab": ("a:\n\t- b\n", "E_YAML", "release.yaml", ""),
    "not a mapping": ("- a\n", "E_YAML", "release.yaml", ""),
    "empty": ("", "E_YAML", "release.yaml", ""),
    "steps equal": (BASE + "rollout: {steps: [5, 5]}\n", "E_STEPS", "rollout.steps", ""),
    "users by address": (BASE + "rollout: {assign: {by: address, name: x}}\n", "E_CONFIG", "rollout.assign.by", ""),
    "users by two headers": (
        BASE + 'rollout: {assign: {by: header, name: "a b"}}\n',
        "E_CONFIG",
        "rollout.assign.name",
        "",
    ),
    "steps empty": (BASE + "rollout: {steps: []}\n", "E_STEPS", "rollout.steps", ""),
    "step of 100": (BASE + "rollout: {steps: [5, 100]}\n", "E_STEPS", "rollout.steps", ""),
    "step below zero": (BASE + "rollout: {steps: [-5, 50]}\n", "E_STEPS", "rollout.steps", ""),
    "step that is no number": (BASE + "rollout: {steps: [.nan]}\n", "E_STEPS", "rollout.steps.0", ""),
    "threshold NaN": (BASE.replace("min: 0.5", "min: .nan"), "E_THRESHOLD", "evaluate.gates.0.min", ""),
    "min above max": (BASE.replace("min: 0.5", "min: 0.5, max: 0.1"), "E_THRESHOLD", "evaluate.gates.0", ""),
    "unknown metric": (BASE.replace("accuracy", "acuracy"), "E_THRESHOLD", "evaluate.gates.0.metric", ""),
    "gate on no slice": (BASE.replace("min: 0.5", "min: 0.5, slices: topic"), "E_CONFIG", "evaluate", ""),
    "lease shorter than six looks": (BASE + "rollout: {look: 30}\n", "E_DURATION", "rollout", ""),
    "yes is no bool": (BASE + "bootstrap: 'yes'\n", "E_CONFIG", "bootstrap", ""),
    "image in capitals": (BASE + "package: {base_image: Python:3.11}\n", "E_IMAGE", "package.base_image", ""),
    "image cut short": (BASE + "package: {base_image: 'a@sha256:ab'}\n", "E_IMAGE", "package.base_image", ""),
    "image with an option": (BASE + "package: {base_image: '--network=host'}\n", "E_IMAGE", "package.base_image", ""),
    "unknown target": (BASE + "package: {target: podman}\n", "E_CONFIG", "package.target", ""),
    "margin below the tolerance": (
        BASE + "rollout: {gates: {latency: {tolerance: 0.1, margin: 0.1}}}\n",
        "E_THRESHOLD",
        "rollout.gates.latency",
        "",
    ),
    "a share of nothing": (BASE + "serve: {record: {share: 0.0}}\n", "E_CONFIG", "serve.record.share", ""),
    "a share above all": (BASE + "serve: {record: {share: 1.5}}\n", "E_CONFIG", "serve.record.share", ""),
    "keeping nothing": (BASE + "serve: {record: {keep: 0}}\n", "E_CONFIG", "serve.record.keep", ""),
    "a record larger than a disk": (
        BASE + "serve: {record: {keep: 100000, max_body_bytes: 1048576}}\n",
        "E_CONFIG",
        "serve.record",
        "",
    ),
    **{
        f"redacting {path!r}": (
            BASE + f"serve: {{record: {{redact: ['{path}']}}}}\n",
            "E_CONFIG",
            "serve.record.redact.0",
            "",
        )
        for path in ("", "body.", "body..a", "body.a[0]", "$.a", "a header", "body.a,b", "x" * 101)
    },
    "redacting the body": (BASE + "serve: {record: {redact: [body]}}\n", "E_CONFIG", "serve.record.redact", ""),
    **{
        f"a price of {price}": (
            BASE + f"serve: {{api: openai, price: {{input: {price}, output: 1}}}}\n",
            "E_PRICE",
            "serve.price.input",
            "",
        )
        for price in ("0", "0.0", "-1", "'0.5'", "true", "1.0e+10")
    },
    "a cache of no price": (
        BASE + "serve: {api: openai, price: {input: 1, cached: 0, output: 1}}\n",
        "E_PRICE",
        "serve.price.cached",
        "",
    ),
    "a cache that is dearer": (
        BASE + "serve: {api: openai, price: {input: 1, cached: 2, output: 1}}\n",
        "E_PRICE",
        "serve.price",
        "",
    ),
    "half a price": (BASE + "serve: {api: openai, price: {input: 1}}\n", "E_PRICE", "serve.price", ""),
    "no price at all": (BASE + "serve: {api: openai, price: {}}\n", "E_PRICE", "serve.price", ""),
    "two prices": (
        BASE + "serve: {api: openai, price: {input: 1, output: 1, gpu_hour: 2}}\n",
        "E_PRICE",
        "serve.price",
        "",
    ),
    "a gate on no price": (BASE + "serve: {api: openai}\nrollout: {gates: {cost: {}}}\n", "E_PRICE", "", ""),
    "a gate on hours": (
        BASE + "serve: {api: openai, price: {gpu_hour: 2}}\nrollout: {gates: {cost: {}}}\n",
        "E_PRICE",
        "",
        "",
    ),
    "a gate on the cost of users": (
        BASE + "serve: {api: openai, price: {input: 1, output: 1}}\n"
        "rollout: {assign: {by: header, name: x-user}, gates: {cost: {}}}\n",
        "E_CONFIG",
        "",
        "",
    ),
    "a price of a classifier": (BASE + "serve: {price: {input: 1, output: 1}}\n", "E_CONFIG", "", ""),
    "a margin of cost that is tolerated": (
        BASE + "serve: {api: openai, price: {input: 1, output: 1}}\nrollout: {gates: {cost: {margin: 0.05}}}\n",
        "E_THRESHOLD",
        "rollout.gates.cost",
        "",
    ),
    "a name that no form tells": (
        BASE + "serve: {record: {recognise: [PERSON]}}\n",
        "E_CONFIG",
        "serve.record.recognise.0",
        "",
    ),
    "a pattern that is none": (
        BASE + "serve: {record: {patterns: {a: '('}}}\n",
        "E_PATTERN",
        "serve.record.patterns.a",
        "",
    ),
    "a pattern of nothing": (
        BASE + "serve: {record: {patterns: {a: 'x*'}}}\n",
        "E_PATTERN",
        "serve.record.patterns.a",
        "",
    ),
    "a pattern without a name": (
        BASE + "serve: {record: {patterns: ['x']}}\n",
        "E_CONFIG",
        "serve.record.patterns",
        "",
    ),
    "keeping for no time": (BASE + "serve: {record: {retain: 0s}}\n", "E_CONFIG", "serve.record.retain", ""),
    "keeping for ever": (BASE + "serve: {record: {retain: 31d}}\n", "E_DURATION", "serve.record.retain", ""),
    "a replay without a record": (BASE + "rollout: {replay: {}}\n", "E_CONFIG", "", ""),
    "a replay of one": (
        BASE + "serve: {record: {}}\nrollout: {replay: {requests: 1}}\n",
        "E_CONFIG",
        "rollout.replay.requests",
        "",
    ),
    "a replay by nobody": (
        BASE + "serve: {record: {}}\nrollout: {replay: {concurrency: 0}}\n",
        "E_CONFIG",
        "rollout.replay.concurrency",
        "",
    ),
    "alpha of one": (BASE + "rollout: {alpha: 1}\n", "E_CONFIG", "rollout.alpha", ""),
}


@pytest.mark.parametrize(("text", "code", "field", "hint"), BAD.values(), ids=BAD)
def test_a_wrong_spec_names_code_and_field(text, code, field, hint):
    """Each wrong spec has its code, its field, and a hint where one is known."""
    with pytest.raises(BadInput) as caught:
        parse_spec(text)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("rollout", "expected"), [("{}", 20), ("{replay: {}}", 1), ("{replay: {}, min_step_requests: 7}", 7)]
)
def test_a_step_waits_for_few_live_requests_where_others_were_replayed(rollout, expected):
    """One, if nobody says another number; and so it stays when it is read back."""
    spec = parse_spec(BASE + f"serve: {{record: {{}}}}\nrollout: {rollout}\n")
    assert spec.rollout.min_step_requests == expected
    assert ReleaseSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_missing_file_is_named(tmp_path):
    """A spec that is not there says so, without a traceback."""
    with pytest.raises(BadInput) as caught:
        read_spec(tmp_path / "none.yaml")
    assert caught.value.code == "E_SPEC_FILE"


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_any_text_is_a_spec_or_bad_input(text):
    """No text causes anything but a spec or a BadInput."""
    try:
        parse_spec(text)
    except BadInput as error:
        assert error.code.startswith("E_")  # noqa: PT017  the other outcome is a spec
