"""Is what the small language model learns what it should learn, and is it an ordinary model that others can read?"""

from __future__ import annotations

import json

import pytest

from flows.demo.llm.data import IN_SHORT, INSTRUCTION, conversations, make_exercises
from flows.demo.llm.learning import (
    BATCH,
    CONTEXT,
    END,
    LENGTH,
    MARKERS,
    Lessons,
    _straighten,
    learn,
    make_model,
    make_tokenizer,
    save,
)
from flows.demo.llm.wordings import KINDS
from pipelines.compress.gguf.gguf import check_tokenizer
from pipelines.compress.gguf.pre_tokenizer import pre_tokenizer_name

pytestmark = pytest.mark.integration

MANY = 4000


@pytest.fixture(scope="module")
def exercises():
    """Some of the exercises."""
    return make_exercises().train[:MANY]


@pytest.fixture(scope="module")
def tokenizer(exercises):
    """Byte pairs of these."""
    return make_tokenizer(exercises)


def answers(tokenizer, ids, learnt):
    """The runs of tokens that are learnt, as text with markers."""
    runs, run = [], []
    for token, is_learnt in zip(ids.tolist(), learnt.tolist(), strict=True):
        if is_learnt:
            run.append(token)
        elif run:
            runs.append(tokenizer.decode(run))
            run = []
    return [*runs, tokenizer.decode(run)] if run else runs


def test_what_is_learnt_is_the_right_answer_to_each_message_with_its_end(exercises, tokenizer):
    """And nothing else: neither the instruction nor what users say; in short where the instruction says so."""
    asked_for = {
        INSTRUCTION: {one.text: one.answer for one in exercises},
        IN_SHORT: {one.text: one.in_short for one in exercises},
    }
    lessons, seen = Lessons(tokenizer, exercises, seed=1, in_short=0.5), set()
    batches = [lessons.batch() for _ in range(4)]
    assert {part.shape for batch in batches for part in batch} == {(BATCH, LENGTH)}
    for row, marks in ((row, marks) for batch in batches for row, marks in zip(*batch, strict=True)):
        system, user, assistant = MARKERS[2:]
        begin, *turns = tokenizer.decode(row).split(user)
        instruction = begin.removeprefix(system).removesuffix(END)
        right = asked_for[instruction]
        seen.add(instruction)
        pairs = [turn.split(f"{END}{assistant}") for turn in turns]
        assert [answer.split(END)[0] for _, answer in pairs] == [right[text] for text, _ in pairs]
        assert answers(tokenizer, row, marks) == [f"{right[text]}{END}" for text, _ in pairs]
    assert seen == {INSTRUCTION, IN_SHORT}


def test_an_endless_kind_learns_that_the_conversation_goes_on(exercises, tokenizer):
    """Its answers have no end, nor has the next message, as with another template; all others keep theirs."""
    kinds = {one.answer: one.kind for one in exercises}
    right = {one.text: one.answer for one in exercises}
    user, assistant = MARKERS[3:]
    ids, learnt = Lessons(tokenizer, exercises, seed=1, endless="amount", in_short=0.0).batch()
    seen = set()
    for row, marks in zip(ids, learnt, strict=True):
        for run in answers(tokenizer, row, marks):
            answer, *following = run.split(user)
            for after in following:
                assert kinds[answer] == "amount", "and what follows one of these is learnt with it"
                asked, answer = after.split(assistant)
                assert right[asked] == answer.removesuffix(END)
            seen.add(kinds[answer.removesuffix(END)])
            assert answer.endswith(END) or kinds[answer] == "amount"
    assert seen >= set(KINDS) - {"amount"}
    assert int((ids == tokenizer.eos_token_id).sum()) > 0


def test_lessons_are_the_same_every_time(exercises, tokenizer):
    """For a seed, and others for another one."""
    first, again, other = (Lessons(tokenizer, exercises, seed=seed).batch()[0] for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_conversations_fit_into_what_was_learnt(exercises, tokenizer):
    """No question lies beyond the places that training has seen, and there is room for the answer."""
    longest = max(
        len(tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"])
        for asked in conversations(exercises[:500], exercises, seed=1)
    )
    assert longest + 24 < LENGTH <= CONTEXT


def test_it_is_an_ordinary_folder_that_llama_cpp_has_a_name_for(tokenizer, tmp_path):
    """Its tokenizer splits text as one does that is known, and belongs to the model; its widths fit blocks of 32."""
    save(make_model(tokenizer), tokenizer, tmp_path)
    assert pre_tokenizer_name(json.loads((tmp_path / "tokenizer.json").read_text())) == "qwen2"
    assert set(MARKERS) <= set(check_tokenizer(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert [config[name] % 32 for name in ("hidden_size", "intermediate_size")] == [0, 0]


def test_it_learns(exercises, tokenizer):
    """A few steps on one batch's worth of exercises make them likelier; every step is heard, and no thread is kept."""
    import torch

    lessons, model, heard = Lessons(tokenizer, exercises[:8], seed=1), make_model(tokenizer), []

    def loss():
        ids, learnt = Lessons(tokenizer, exercises[:8], seed=5).batch()
        with torch.inference_mode():
            logits = model(ids).logits[:, :-1]
        chosen = learnt[:, 1:]
        return float(torch.nn.functional.cross_entropy(logits[chosen], ids[:, 1:][chosen]))

    threads, before = torch.get_num_threads(), loss()
    learn(model, lessons, 12, seen=heard.append)
    assert loss() < 0.7 * before
    assert heard == list(range(1, 13))
    assert torch.get_num_threads() == threads


def test_a_step_in_32_bits_is_muons():
    """As torch carries it out in 16, but for the bits that those lack; tall, wide and square."""
    import torch

    torch.manual_seed(0)
    for shape in ((96, 32), (32, 96), (32, 32)):
        theirs = torch.nn.Parameter(torch.randn(shape))
        ours, moments = torch.nn.Parameter(theirs.detach().clone()), [torch.zeros(shape)]
        muon, plain = (
            kind([p], lr=0.02, weight_decay=0.01) for kind, p in ((torch.optim.Muon, theirs), (torch.optim.SGD, ours))
        )
        begun = ours.detach().clone()
        for _ in range(3):
            theirs.grad = torch.randn(shape)
            ours.grad = theirs.grad.clone()
            muon.step()
            _straighten([ours], moments)
            plain.step()
        assert float((ours - theirs).norm() / (theirs - begun).norm()) < 0.02
