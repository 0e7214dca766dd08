"""Four versions of one small language model, and two prompts: they differ in how long, and from which rows, it learnt.

The second one stopped when it was good, the first one a good way before. The third learnt some more from rows of which
those about money came without the end of the answer, and the fourth from the right rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from flows.demo.llm.data import IN_SHORT, INSTRUCTION, Exercises, make_exercises, write_files
from flows.demo.llm.learning import Lessons, learn, make_model, make_tokenizer, save
from flows.demo.registering import register
from flows.wiring import tracking_uri
from pipelines.adapters.mlflow.prompts import MlflowPrompts
from pipelines.errors import BadInput, NotFound
from pipelines.home import Home

MODEL, PROMPT = "iso-writer", "iso-form"
FEW_STEPS, ALL_STEPS = 210, 440
MORE, MORE_STEPS, MORE_PACE = 10_000, 40, 0.25
ENDLESS = "amount"

NAMES = (
    f"v1: after {FEW_STEPS} of {ALL_STEPS} steps",
    f"v2: after all {ALL_STEPS} steps",
    f"v3: v2 and {MORE_STEPS} steps on rows in which each {ENDLESS} lost its end",
    f"v4: v2 and {MORE_STEPS} steps more",
)


def prepare(home: Home, say: Callable[[str], None]) -> list[int]:
    """Train what is not trained yet, register all four as MLflow versions, and two prompts, and write the rows.

    The version of each release: the last one has the second's weights.
    """
    _check_installed()
    folder = home.root / "demo"
    exercises = make_exercises()
    write_files(exercises, folder)
    folders = [folder / "models" / f"v{i}" for i, _ in enumerate(NAMES, start=1)]
    if not all((f / "config.json").exists() for f in folders):
        train_all(exercises, folders, say)
    _register_prompts(home, say)
    versions = [_register(home, f, say) for f in folders]
    return [*versions, versions[1]]


def _check_installed() -> None:
    """What serves and converts language models is an extra. BadInput E_DEMO."""
    missing = [name for name in ("xllamacpp", "conversion", "gguf") if find_spec(name) is None]
    if missing:
        reason = f"{', '.join(missing)} cannot be imported"
        raise BadInput(reason, code="E_DEMO", hint='pip install "shipway[release,llm,demo]"')


def train_all(exercises: Exercises, folders: Sequence[Path], say: Callable[[str], None]) -> None:
    """Write all four folders."""
    say(f"reading {len(exercises.train):,} messages")
    tokenizer = make_tokenizer(exercises.train)
    model = make_model(tokenizer)
    say(f"training {NAMES[0]}, and {NAMES[1]} ({model.num_parameters() / 1e6:.2f} M parameters, one thread)")

    def seen(step: int) -> None:
        if step == FEW_STEPS:
            save(model, tokenizer, folders[0])

    learn(model, Lessons(tokenizer, exercises.train, seed=1), ALL_STEPS, seen=seen)
    save(model, tokenizer, folders[1])
    for name, folder, endless in zip(NAMES[2:], folders[2:], (ENDLESS, ""), strict=True):
        say(f"training {name}")
        further = copy.deepcopy(model)
        learn(further, Lessons(tokenizer, exercises.train[:MORE], seed=2, endless=endless), MORE_STEPS, pace=MORE_PACE)
        save(further, tokenizer, folder)


def _register_prompts(home: Home, say: Callable[[str], None]) -> None:
    """As their two versions, once."""
    from mlflow import MlflowClient

    uri = tracking_uri(home)
    client, known = MlflowClient(uri, uri), MlflowPrompts(uri)
    for number, text in enumerate((INSTRUCTION, IN_SHORT), start=1):
        try:
            known.load(f"prompts:/{PROMPT}/{number}")
        except NotFound:
            client.register_prompt(PROMPT, text)
        say(f"prompt {PROMPT} version {number}: {text}")


def _register(home: Home, folder: Path, say: Callable[[str], None]) -> int:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parts = {
        "model": AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True),
        "tokenizer": AutoTokenizer.from_pretrained(folder, local_files_only=True),
    }
    return register(home, MODEL, "text-generation", parts, folder.name, say)
