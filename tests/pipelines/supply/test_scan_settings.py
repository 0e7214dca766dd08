"""Are settings, templates and MLflow's files refused where they need code or mean two things?

Rows 18 to 22 of the bad-input matrix.
"""

from __future__ import annotations

import json
import tracemalloc

import pytest

from pipelines.supply.scan import scan
from tests.pipelines.model_folders import edit_json
from tests.pipelines.supply.refusals import refusal

WEIGHTS = "model.safetensors"


def test_a_plain_chat_template_is_accepted(tiny_copy):
    """Loops, methods and filters that only format."""
    text = "{% for m in messages %}{{ m['role'] }}: {{ m.content.strip() | trim }}{% if loop.last %}\n{% endif %}"
    text += "{% generation %}{{ '<|im_end|>' }}{% endgeneration %}{% endfor %}"
    edit_json(tiny_copy / "tokenizer_config.json", chat_template=text)
    assert scan(tiny_copy).left_behind == ()


def test_requirements_are_recorded(tiny_copy):
    """As they stand, without comments."""
    (tiny_copy / "requirements.txt").write_text("# of MLflow\nmlflow==3.17.2\ntorch>=2,<3 ; python_version>'3'\n\n")
    assert scan(tiny_copy).requirements == ("mlflow==3.17.2", "torch>=2,<3 ; python_version>'3'")


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', "[" * 100_000, "[" * 66 + "]" * 66,
     '{"a": 1} x', "", '{"a":' * 80 + "1" + "}" * 80, '{"a": ' + "9" * 5000 + "}", "\ufeff{}"],
)  # fmt: skip
def test_json_that_readers_disagree_on_is_refused(tiny_copy, text):
    """Duplicate keys, NaN, endless nesting, trailing text, a byte order mark."""
    (tiny_copy / "generation_config.json").write_text(text)
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_JSON", "generation_config.json")
    assert len(error.reason) <= 300


def test_a_huge_json_is_refused_unread(tiny_copy):
    """By its size."""
    with (tiny_copy / "generation_config.json").open("wb") as file:
        file.truncate(2**30)
    assert refusal(tiny_copy).code == "E_JSON"


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModel": "modeling.Model"}},
        {"trust_remote_code": True},
        {"custom_pipelines": {"x": {"impl": "a.B"}}},
        {"nested": [{"auto_map": {"AutoModel": "owner/repo--modeling.Model"}}]},
        {"_attn_implementation": "owner/kernel"},
        {"use_kernels": True},
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_configuration_that_asks_for_code_is_refused(tiny_copy, name, change):
    """At any depth, and the key is named."""
    edit_json(tiny_copy / name, **change)
    error = refusal(tiny_copy)
    assert error.code == "E_REMOTE_CODE"
    assert error.field in {"auto_map", *change}


def test_settings_that_ask_for_nothing_are_fine(tiny_copy):
    """The same keys, switched off; and a word of a vocabulary is not a setting."""
    edit_json(tiny_copy / "config.json", auto_map=None, trust_remote_code=False, _attn_implementation="sdpa")
    tokenizer = json.loads((tiny_copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["auto_map"] = 500
    (tiny_copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert scan(tiny_copy).left_behind == ()


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages['__class__'] }}",
    "{{ messages | attr('__init__') }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ messages | selectattr('x.__globals__') | list }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ ''.format_map({}) }}",
    "{{ cycler.__init__.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% for x in %}",
]


@pytest.mark.parametrize("text", ESCAPES)
@pytest.mark.parametrize("place", ["string", "list", "file"])
def test_a_template_that_leaves_the_sandbox_is_refused(tiny_copy, text, place):
    """As a string, as one of several, and as a file."""
    if place == "file":
        (tiny_copy / "chat_template.jinja").write_text(text)
    else:
        value = text if place == "string" else [{"name": "default", "template": text}]
        edit_json(tiny_copy / "tokenizer_config.json", chat_template=value)
    assert refusal(tiny_copy).code == "E_TEMPLATE"


GOOD = """\
flavors:
  python_function:
    loader_module: mlflow.transformers
  transformers:
    code: null
    model_binary: model
"""


def test_what_mlflow_writes_is_accepted(tiny_copy):
    """Its own loader, named and not imported; its empty `code` key."""
    (tiny_copy / "MLmodel").write_text(GOOD)
    assert scan(tiny_copy).notes == ("MLmodel: flavours python_function, transformers",)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (GOOD.replace("mlflow.transformers", "mlflow.pyfunc.model"), "flavors.python_function.loader_module"),
        (GOOD.replace("mlflow.transformers", "os"), "flavors.python_function.loader_module"),
        (GOOD.replace("mlflow.transformers", "mlflow.transformers.evil"), "flavors.python_function.loader_module"),
        (GOOD.replace("mlflow.transformers", "[a]"), "flavors.python_function.loader_module"),
        (GOOD.replace("code: null", "code: code"), "flavors.transformers.code"),
        (GOOD.replace("code: null", "python_model: python_model.pkl"), "flavors.transformers.python_model"),
        (GOOD.replace("code: null", "model_code_path: agent.py"), "flavors.transformers.model_code_path"),
    ],
)
def test_a_model_that_needs_code_is_refused(tiny_copy, text, field):
    """The key is named, and so is the value."""
    (tiny_copy / "MLmodel").write_text(text)
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_MODEL_CODE", field)


OTHERS = {
    "sklearn": ("model.skops", "a scikit-learn model"),
    "onnx": ("model.onnx", "an ONNX model"),
    "xgboost": ("model.ubj", "an XGBoost model"),
    "sentence_transformers": ("model.safetensors", "a sentence-transformers model"),
    "johnsnowlabs": ("model.bin", "a model of the flavour 'johnsnowlabs'"),
}


@pytest.mark.parametrize(("flavour", "file", "kind"), [(f, *said) for f, said in OTHERS.items()], ids=OTHERS)
def test_a_model_of_another_library_is_told_so_first(tmp_path, flavour, file, kind):
    """Whatever its files are: nobody is sent to save_pretrained who has none."""
    (tmp_path / file).write_bytes(b"\x80\x04N.")
    loader = f"python_function: {{loader_module: mlflow.{flavour}}}"
    (tmp_path / "MLmodel").write_text(f"flavors: {{{loader}, {flavour}: {{code: code, data: {file}}}}}\n")
    error = refusal(tmp_path)
    assert (error.code, error.field) == ("E_FLAVOUR", f"flavors.{flavour}")
    assert error.reason == f"MLmodel: it is {kind}; Shipway releases text classifiers of transformers for now"
    assert "save_pretrained" not in " ".join(error.lines())


def test_a_function_that_needs_code_is_told_so(tmp_path):
    """It has no other flavour, and nothing of it is run."""
    (tmp_path / "python_model.pkl").write_bytes(b"\x80\x04N.")
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.pyfunc.model}}\n")
    error = refusal(tmp_path)
    assert error.code == "E_MODEL_CODE"
    assert error.reason.startswith("MLmodel: it is a Python function (pyfunc); Shipway releases text classifiers")


@pytest.mark.parametrize("name", ["model.onnx", "model.skops", "model.cbm", "model.gguf"])
def test_advice_about_weights_is_for_those_of_transformers(tiny_copy, name):
    """Other formats have no save_pretrained."""
    (tiny_copy / name).write_bytes(b"x")
    error = refusal(tiny_copy)
    assert (error.code, error.hint) == ("E_UNSAFE_FORMAT", "Shipway releases text classifiers of transformers for now")


BOMBS = {"lists": ("[{}]", "[],"), "objects": ("[{}]", "{},"), "numbers": ("[{}]", "1,"), "pairs": ("[{}]", '["",0],')}


@pytest.mark.parametrize(("whole", "part"), BOMBS.values(), ids=BOMBS)
def test_very_many_small_values_are_refused_before_they_are_made(tiny_copy, whole, part):
    """A container costs a hundred times its bytes."""
    (tiny_copy / "tokenizer.json").write_text(whole.replace("{}", part * 3_000_001 + "0"))
    tracemalloc.start()
    error = refusal(tiny_copy)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (error.code, error.reason) == (
        "E_JSON", "tokenizer.json is not strict JSON: it holds more than 3,000,000 values"
    )  # fmt: skip
    assert peak < 3 * (tiny_copy / "tokenizer.json").stat().st_size


def test_an_mlmodel_that_points_elsewhere_is_refused(tiny_copy):
    """The model's folder is inside."""
    (tiny_copy / "MLmodel").write_text(GOOD.replace("model_binary: model", "model_binary: ../../secrets"))
    assert refusal(tiny_copy).code == "E_PATH"


@pytest.mark.parametrize("text", ["flavors: !!python/object/apply:os.system ['true']\n", "a: [", "\tx: 1\n"])
def test_an_mlmodel_with_python_tags_is_refused(tiny_copy, text):
    """Plain YAML only."""
    (tiny_copy / "MLmodel").write_text(text)
    assert refusal(tiny_copy).code == "E_YAML"


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt", "--index-url https://example.org/simple", "--extra-index-url=https://example.org", "-e .",
        "git+https://example.org/x.git", "x @ git+ssh://example.org/x", "file:///tmp/x.whl", "x @ file:./x.whl",
        "https://example.org/x.whl", "./x.whl", "/opt/x.whl", "../x", "--trusted-host example.org", "-c elsewhere.txt",
    ],
)  # fmt: skip
def test_a_requirement_from_elsewhere_is_refused_by_line(tiny_copy, line):
    """Requirements are never installed; one that would fetch from elsewhere is not even recorded."""
    (tiny_copy / "requirements.txt").write_text(f"# from mlflow\ntorch==2.13.0\n{line}\n")
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_REQUIREMENTS", "requirements.txt:3")
