"""What does a model write for rows, and how likely does it find their references? Run in a child.

The tokenizer of transformers reads every row, for all engines alike; the served engines write through their own door,
as for users.
"""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import urlsplit

from pipelines.errors import BadInput
from pipelines.serving.engines.streaming import EnginePlace, StreamingEngine
from pipelines.supply.oracle.child import answer, lend, may_ask
from pipelines.tasks.generation.answers import Choice, read_answer
from pipelines.tasks.generation.forms.choices import choices_of
from pipelines.tasks.generation.forms.form import form_of
from pipelines.tasks.generation.golden import chosen
from pipelines.tasks.generation.questions import of_row
from pipelines.tasks.generation.reading.distribution import LISTED, Distribution
from pipelines.tasks.generation.reading.reader import Reader, RowRefused, Tokens
from pipelines.tasks.generation.rows import Row

MODEL = "model"
PORTS = {"http": 80, "https": 443}
UNREADABLE = "unreadable"
"""How an answer ended that the engine itself could not make out."""

PATTERN_S = 10.0
"""Some patterns go back over a text for ever."""


class Model(Protocol):
    """A model that can be asked in this process."""

    def takes(self, row: Row) -> bool:
        """Whether it can be asked for an answer of the row's form."""
        ...

    def write(self, row: Row, tokens: Tokens, most: int, sampling: Mapping[str, Any]) -> Choice:
        """Its own answer, greedily where nothing is said of its sampling."""
        ...

    def likelihood(self, prompt: Tokens, forced: Tokens) -> float:
        """Of all of `forced` after the prompt, in nats."""
        ...

    def next_tokens(self, prompt: Tokens, forced: Tokens) -> Iterator[Distribution]:
        """What may come in each place of `forced`, after the prompt and what of `forced` stands before it."""
        ...


class Reference:
    """transformers on torch, in 32 bits: what the weights say, whatever serves them."""

    def __init__(self, folder: str, reader: Reader, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch, self._reader = torch, reader
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        ).eval()

    def takes(self, row: Row) -> bool:
        """No form that is sent: it holds nobody to a schema, and reads no call out of a text."""
        return not row.form.sent

    def write(self, row: Row, tokens: Tokens, most: int, sampling: Mapping[str, Any]) -> Choice:
        """By the weights alone: penalties and stop strings are the engines' own."""
        ids, warm = self._torch.tensor([tokens]), bool(sampling.get("temperature"))
        drawn = {
            name: sampling.get(name) or None if warm else None for name in ("temperature", "top_p", "top_k", "min_p")
        }
        options = {**drawn, "do_sample": warm, "max_new_tokens": min(most, sampling.get("max_tokens", most))}
        self._torch.manual_seed(row.number)
        with self._torch.inference_mode():
            whole = self._model.generate(ids, attention_mask=self._torch.ones_like(ids), **options)[0].tolist()
        new, said = whole[len(tokens) :], self._model.generation_config.eos_token_id
        ends = said if isinstance(said, list) else [said]
        return Choice(self._reader.text(new), "stop" if new and new[-1] in ends else "length")

    def likelihood(self, prompt: Tokens, forced: Tokens) -> float:
        """Exactly."""
        with self._torch.inference_mode():
            logs = self._logs(prompt, forced)
            return float(logs[range(len(forced)), forced].sum())

    def _logs(self, prompt: Tokens, forced: Tokens) -> Any:
        """Log-probabilities of all tokens in each place of `forced`; those of a long prompt would be gigabytes."""
        places = 1 + len(forced)
        kept = {"logits_to_keep": places} if "logits_to_keep" in signature(self._model.forward).parameters else {}
        logits = self._model(self._torch.tensor([prompt + forced]), **kept).logits[0, -places:-1]
        return self._torch.log_softmax(logits.double(), dim=-1)

    def next_tokens(self, prompt: Tokens, forced: Tokens) -> Iterator[Distribution]:
        """By one pass over all of it."""
        with self._torch.inference_mode():
            logs = self._logs(prompt, forced)
            top = logs.topk(min(LISTED, logs.shape[-1]), dim=-1)
        for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True):
            yield Distribution(list(zip(ids, values, strict=True)))


class ServedModel:
    """The engine of a bundle, asked as users ask it."""

    def __init__(self, engine: StreamingEngine, *, reads_by_itself: bool) -> None:
        self._engine, self._reads_by_itself = engine, reads_by_itself

    def takes(self, row: Row) -> bool:  # noqa: ARG002  it refuses by itself what it cannot do
        """All that it is asked."""
        return True

    def write(self, row: Row, tokens: Tokens, most: int, sampling: Mapping[str, Any]) -> Choice:
        """By its own template and tokenizer. RowRefused where these make other tokens of the row than transformers.

        Tools each engine writes into a prompt in its own way. An answer that the engine cannot make out, as it was cut,
        has no text.
        """
        if self._reads_by_itself and not row.form.tools:
            self._compare(row, tokens)
        question = of_row(MODEL, row, most, sampling)
        if row.form.sent:
            self._check_size(row, question.body)
        try:
            said = self._engine.ask(question.path, question.body)
        except BadInput as error:
            if row.form.sent and any(fault in error.reason for fault in self._engine.habits.models_faults):
                return Choice("", UNREADABLE)
            raise
        read = (said.get("usage") or {}).get("prompt_tokens", len(tokens))
        if read != len(tokens) and not row.form.tools:
            reason = f"the engine reads {read:,} tokens, and transformers {len(tokens):,}"
            raise RowRefused(row.number, "E_TEMPLATE" if row.is_chat else "E_TOKENIZER", reason)
        return read_answer(said)

    def _check_size(self, row: Row, body: Mapping[str, Any]) -> None:
        """Users' requests are refused for the same."""
        for name, most in self._engine.habits.most_bytes.items():
            if name in body and (size := len(json.dumps(body[name]))) > most:
                raise RowRefused(row.number, "E_DATASET", f"{name} has {size:,} bytes, and the engine takes {most:,}")

    def _compare(self, row: Row, tokens: Tokens) -> None:
        """An engine that was brought has a transformers of its own; others were compared when their file was made."""
        asked = {"messages": list(row.asked), "add_generation_prompt": True} if row.is_chat else {"prompt": row.asked}
        found = list(self._engine.ask("/tokenize", asked)["tokens"])
        if found != tokens:
            place = next((n for n, pair in enumerate(zip(found, tokens, strict=False)) if pair[0] != pair[1]), -1)
            reason = (
                f"the engine reads {len(found)} tokens, and transformers {len(tokens)}; the first other one: {place}"
            )
            raise RowRefused(row.number, "E_TOKENIZER", reason)

    def likelihood(self, prompt: Tokens, forced: Tokens) -> float:
        """As the engine tells it."""
        return self._engine.likelihood(prompt, forced)

    def next_tokens(self, prompt: Tokens, forced: Tokens) -> Iterator[Distribution]:
        """One token at a time: the engine keeps what stands before it."""
        for place in range(len(forced)):
            yield Distribution(self._engine.following([*prompt, *forced[:place]], LISTED))


def work(question: Mapping[str, Any]) -> dict[str, Any]:
    """`do: read` says how many tokens each row has; `do: write` what the model makes of it."""
    rows = [_row(said) for said in question["rows"]]
    reader = Reader(question["folder"])
    try:
        if question["do"] == "read":
            return {"tokens": [reader.longest(row) for row in rows]}
        with _model(question, reader) as model:
            return {"rows": list(_write(question, rows, reader, model))}
    except RowRefused as refused:
        return {"refused": refused.said}


def _row(said: Mapping[str, Any]) -> Row:
    asked = said["asked"]
    whole = asked if isinstance(asked, str) else tuple(asked)
    more = form_of(said), choices_of(said), tuple(said.get("until", ()))
    return Row(whole, (said["reference"],), said["pattern"], said["number"], *more)


@contextmanager
def _model(question: Mapping[str, Any], reader: Reader) -> Iterator[Model]:
    facts = question["facts"]
    if facts["engine"] == "torch":
        yield Reference(question["folder"], reader, question["threads"])
        return
    from pipelines.serving.engines import streaming_engine

    lend(question["devices"])
    place = EnginePlace(question["threads"], question["at"])
    engine = streaming_engine(Path(question["folder"]), facts, place, MODEL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    for host, number in _addresses(question["at"], port):
        may_ask(host, number)
    engine.start(port)
    try:
        yield ServedModel(engine, reads_by_itself=bool(question["at"]))
    finally:
        engine.stop()


def _addresses(at: str, port: int) -> list[tuple[str, int]]:
    """Where the engine listens: on loopback, where this process starts it."""
    if not at.startswith("http"):
        return [("127.0.0.1", port)]
    parts = urlsplit(at)
    return [(str(parts.hostname), parts.port or PORTS[parts.scheme])]


def _write(question: Mapping[str, Any], rows: Sequence[Row], reader: Reader, model: Model) -> Iterator[dict[str, Any]]:
    """One row after the other; each adds a byte to the file that tells how far it is."""
    champion, golden = question["champion"], chosen(len(rows))
    with Path(question["progress"]).open("ab", buffering=0) as progress:
        for place, row in enumerate(rows):
            tokens, base = reader.prompt(row), champion[place] if champion else None
            try:
                written = _written(model, row, tokens, question, is_golden=place in golden)
                scored = _scored(reader, model, row, tokens, base, question)
                sums = [model.likelihood(before, choice) for before, choice in reader.choices(row)]
            except BadInput as error:
                raise RowRefused(row.number, "E_INFERENCE", str(error)) from error
            yield {**written, **scored, "scores": {**written["scores"], **row.choices.scores(sums)}}
            progress.write(b".")


def _written(model: Model, row: Row, tokens: Tokens, question: Mapping[str, Any], *, is_golden: bool) -> dict[str, Any]:
    """Its answer, and whether that is what the row asks for.

    A golden row is answered whatever it asks, and greedily once more where answers are sampled.
    """
    most, sampling = question["most_tokens"], question["sampling"]
    is_asked, began_s = model.takes(row), perf_counter()
    said = model.write(row, tokens, most, sampling) if is_asked and (row.is_written or is_golden) else Choice("", "")
    ms = (perf_counter() - began_s) * 1000
    again = is_golden and is_asked and bool(sampling)
    golden = {"golden": model.write(row, tokens, most, {}).as_dict()} if again else {}
    found: dict[str, Any] = {"answer": said.as_dict(), "text": "", "ms": None, "finished": None, "is_asked": True}
    found |= golden
    if not row.is_written:
        return {**found, "holds": False, "scores": {}}
    text = row.cut(said.text)
    scores = row.form.scores(text, said.calls) if is_asked else {}
    is_finished = said.is_finished or len(text) < len(said.text)
    found |= {"text": text, "ms": ms, "finished": is_finished, "is_asked": is_asked}
    return {**found, "holds": holds(row, text), "scores": scores}


def holds(row: Row, text: str) -> bool:
    """Whether the text holds the row's pattern. RowRefused where nobody can wait for that."""

    def too_long(*_: object) -> None:
        raise RowRefused(row.number, "E_DATASET", f"its pattern was searched for {PATTERN_S:g} s without an end")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, PATTERN_S)
    try:
        return bool(row.pattern and re.search(row.pattern, text))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _scored(
    reader: Reader, model: Model, row: Row, tokens: Tokens, base: Mapping[str, Any] | None, question: Mapping[str, Any]
) -> dict[str, Any]:
    """What it thinks of the reference, token by token; and how far that is from the champion's, of the same tokens."""
    forced, size = reader.reference(row, row.references[0], question["most_tokens"])
    if not row.references[0] or not tokens:
        return {"tokens": [], "loss": [], "likeliest": [], "kl": [], "bytes": 0, "top": []}
    found = list(model.next_tokens(tokens, forced))
    is_comparable = base is not None and base["tokens"] == forced
    tops = base["top"] if base is not None and is_comparable else []
    return {
        "tokens": forced,
        "loss": [-given.log_probability(token) for token, given in zip(forced, found, strict=True)],
        "likeliest": [given.likeliest for given in found],
        "kl": [given.divergence_from(top) for given, top in zip(found, tops, strict=False)],
        "bytes": size,
        "top": [given.top() for given in found] if question["keep_top"] else [],
    }


if __name__ == "__main__":
    answer(work)
