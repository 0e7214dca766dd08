"""Does a model that MLflow packed need code, and what did it say it requires?

Nothing named here is imported or installed: loader modules are compared as names, requirements are recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import UnsafeArtifact
from pipelines.supply.checks.paths import check_relative

MAX_YAML_BYTES = 1 << 20
LOADERS = frozenset(
    f"mlflow.{flavor}"
    for flavor in (
        *("catboost", "keras", "lightgbm", "onnx", "paddle", "prophet", "pytorch", "sentence_transformers"),
        *("sklearn", "spacy", "statsmodels", "tensorflow", "transformers", "xgboost"),
    )
)
"""MLflow's own loader modules that need no code of the model: names to compare with, never to import."""

_CODE_KEYS = ("code", "code_paths", "python_model", "python_model_path", "model_code_path", "entrypoint")
_PATH_KEYS = ("model_binary", "data", "pipeline_model_path", "snapshot_location", "model_data")
_FROM_ELSEWHERE = re.compile(
    r"^-(?!c constraints\.txt$)|git\+|hg\+|svn\+|bzr\+|file:|://|@\s*\S|^[./\\~]", re.IGNORECASE
)


_OTHER_KINDS = {
    "sklearn": "a scikit-learn model",
    "onnx": "an ONNX model",
    "xgboost": "an XGBoost model",
    "lightgbm": "a LightGBM model",
    "catboost": "a CatBoost model",
    "keras": "a Keras model",
    "tensorflow": "a TensorFlow model",
    "pytorch": "a PyTorch model",
    "sentence_transformers": "a sentence-transformers model",
    "spacy": "a spaCy model",
    "h2o": "an H2O model",
    "spark": "a Spark ML model",
    "python_function": "a Python function (pyfunc)",
}
"""What a person calls the models that MLflow packs; the last one is said where there is no other flavour."""


def check_mlmodel(name: str, file: Path) -> tuple[str, ...]:
    """Which flavours does it have? E_FLAVOUR for a model of another library, E_MODEL_CODE where one needs code."""
    flavors = _mapping(_load_yaml(name, file).get("flavors"))
    if name == "MLmodel":
        _check_library(name, flavors)
    for flavor, raw in flavors.items():
        settings = _mapping(raw)
        for key in _CODE_KEYS:
            if settings.get(key):
                raise _needs_code(name, f"flavors.{flavor}.{key}", f"comes with code ({_shown(settings[key])})")
        loader = settings.get("loader_module")
        if loader is not None and not (isinstance(loader, str) and loader in LOADERS):
            raise _needs_code(name, f"flavors.{flavor}.loader_module", f"is loaded by {_shown(loader)}")
        for key in _PATH_KEYS:
            if isinstance(settings.get(key), str):
                check_relative(settings[key], f"flavors.{flavor}.{key}")
    return tuple(sorted(map(str, flavors)))


def _check_library(name: str, flavors: Mapping[str, Any]) -> None:
    """Whatever else is wrong with such a model: advice about its files would lead nowhere."""
    function = _mapping(flavors.get("python_function"))
    if not flavors or "transformers" in flavors or function.get("loader_module") == "mlflow.transformers":
        return
    flavour = next((flavour for flavour in map(str, flavors) if flavour != "python_function"), "python_function")
    kind = _OTHER_KINDS.get(flavour, f"a model of the flavour {flavour[:40]!r}")
    raise UnsafeArtifact(
        f"{name}: it is {kind}; Shipway releases text classifiers of transformers for now",
        code="E_MODEL_CODE" if flavour == "python_function" else "E_FLAVOUR",
        field=f"flavors.{flavour[:40]}",
        expected="the flavour transformers, as mlflow.transformers.log_model writes it",
        hint="serve it with mlflow models serve, and put Shipway's gateway before it: shipway adopt SERVICE URL",
    )


def read_requirements(name: str, file: Path) -> tuple[str, ...]:
    """The requirements as they stand, to be recorded. E_REQUIREMENTS where a line would fetch from elsewhere."""
    lines = file.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        text = line.split(" #")[0].strip()
        if text and not text.startswith("#") and _FROM_ELSEWHERE.search(text):
            raise UnsafeArtifact(
                f"{name} line {number} would install from elsewhere: {text[:80]!r}",
                code="E_REQUIREMENTS",
                field=f"{name}:{number}",
                expected="names and versions, such as torch==2.13.0",
                hint="pass pip_requirements=[...] to log_model",
            )
    return tuple(text for line in lines if (text := line.strip()) and not text.startswith("#"))


def _load_yaml(name: str, file: Path) -> Mapping[str, Any]:
    import yaml

    if file.stat().st_size > MAX_YAML_BYTES:
        raise _bad_yaml(name, f"is larger than {MAX_YAML_BYTES:,} bytes")
    try:
        return _mapping(yaml.safe_load(file.read_text("utf-8")))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _bad_yaml(name, f"is not plain YAML: {' '.join(str(error).split())[:160]}") from error


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _shown(value: Any) -> str:
    """Only text is shown: writing out a container could unfold a bomb of YAML aliases."""
    return repr(value[:60]) if isinstance(value, str) else f"a {type(value).__name__}"


def _needs_code(name: str, field: str, problem: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"{name}: the model {problem}",
        code="E_MODEL_CODE",
        field=field,
        expected="a flavour whose loader is MLflow's own, without code",
        hint="log it with mlflow.transformers.log_model and without code_paths",
    )


def _bad_yaml(name: str, reason: str) -> UnsafeArtifact:
    return UnsafeArtifact(f"{name} {reason}", code="E_YAML", field=name, expected="the MLmodel that MLflow wrote")
