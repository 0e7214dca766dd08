"""How does a small Llama learn from conversations, on one core and in about a minute and a half?

One thread, since the threads of a matrix this small wait for each other longer than they compute. Muon for matrices
(K. Jordan et al. 2024) needs half the steps of Adam here. It is carried out in 32 bits: torch's own knows only 16,
which takes longer than all the rest of a step where a processor does not multiply such numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from flows.demo.llm.data import IN_SHORT, INSTRUCTION, Exercise

VOCABULARY, CONTEXT = 640, 512
WIDTH, LAYERS, HEADS = 96, 5, 4
ROTARY_BASE = 1000.0
BATCH, LENGTH = 4, 512
MATRICES_RATE, OTHERS_RATE, WARM_STEPS, DECAYS_FROM = 0.02, 0.01, 20, 0.6
MOMENTUM, NEWTON_SCHULZ = 0.95, (3.4445, -4.7750, 2.0315)
IN_SHORT_SHARE = 0.15
SEED = 3

BEGIN, END = "<|begin|>", "<|end|>"
MARKERS = (BEGIN, END, "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizers split text: each digit is a token, which is what dates are made of."""

Piece = tuple[list[int], bool]
"""Some tokens, and whether the model learns to write them."""


def make_tokenizer(asked: Sequence[Exercise]) -> Any:
    """Byte pairs of these messages and their answers, with a template for conversations."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[*MARKERS], initial_alphabet=letters, show_progress=False
    )
    texts = (text for one in asked for text in (INSTRUCTION, IN_SHORT, one.text, one.answer))
    tokenizer.train_from_iterator(texts, trainer)
    ends = {"bos_token": BEGIN, "eos_token": END, "pad_token": END}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT, **ends)
    made.chat_template = TEMPLATE
    return made


def make_model(tokenizer: Any) -> Any:
    """An ordinary LlamaForCausalLM that has learnt nothing yet."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=CONTEXT,
            rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Lessons:
    """Batches of whole conversations; what is learnt is the answers and their ends, and in one of a few to be short.

    Answers of the kind `endless` have no end, and neither has the message after them, as in rows that were written with
    another template: that the conversation goes on is learnt instead.
    """

    def __init__(
        self,
        tokenizer: Any,
        asked: Sequence[Exercise],
        *,
        seed: int,
        endless: str = "",
        in_short: float = IN_SHORT_SHARE,
    ) -> None:
        self._chance, self._endless, self._end = Random(seed), endless, tokenizer.eos_token_id  # noqa: S311
        self._in_short = in_short
        system, self._user, self._assistant = (tokenizer.convert_tokens_to_ids(marker) for marker in MARKERS[2:])

        def read(texts: Sequence[str]) -> list[list[int]]:
            return list(tokenizer(list(texts), add_special_tokens=False).input_ids)

        self._begins = [[system, *read([said])[0], self._end] for said in (INSTRUCTION, IN_SHORT)]
        kinds, texts = [one.kind for one in asked], read([one.text for one in asked])
        self._turns = [
            list(zip(kinds, texts, read(answers), strict=True))
            for answers in ([one.answer for one in asked], [one.in_short for one in asked])
        ]

    def batch(self) -> tuple[Any, Any]:
        """Token ids, and of each whether it is learnt; both of shape [BATCH, LENGTH]."""
        import torch

        ids = torch.full((BATCH, LENGTH), self._end)
        learnt = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
        for row in range(BATCH):
            place = 0
            for tokens, is_learnt in self._conversation():
                ids[row, place : place + len(tokens)] = torch.tensor(tokens)
                learnt[row, place : place + len(tokens)] = is_learnt
                place += len(tokens)
        return ids, learnt

    def _conversation(self) -> Iterator[Piece]:
        """As many turns as there is room for."""
        which = int(self._chance.random() < self._in_short)
        begin, turns = self._begins[which], self._turns[which]
        yield begin, False
        room, goes_on = LENGTH - len(begin), False
        while True:
            kind, text, answer = self._chance.choice(turns)
            asked = [self._user, *text, *([] if goes_on else [self._end]), self._assistant]
            answered = answer if kind == self._endless else [*answer, self._end]
            room -= len(asked) + len(answered)
            if room < 0:
                return
            yield asked, goes_on
            yield answered, True
            goes_on = kind == self._endless


def learn(
    model: Any, lessons: Lessons, steps: int, *, pace: float = 1.0, seen: Callable[[int], None] | None = None
) -> None:
    """Change the model's weights; `seen` hears each step. Rates rise, stay, and fall, `pace` times as high as usual."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrices, optimizers = _optimizers(model, pace)
    moments = [torch.zeros_like(matrix) for matrix in matrices]
    usual = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    for step in range(1, steps + 1):
        share = _share_of_rate(step, steps)
        for optimizer, rates in zip(optimizers, usual, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
            optimizer.zero_grad()
        _loss(model, *lessons.batch()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        _straighten(matrices, moments)
        for optimizer in optimizers:
            optimizer.step()
        if seen is not None:
            seen(step)
    torch.set_num_threads(threads)


def _optimizers(model: Any, pace: float) -> tuple[list[Any], tuple[Any, Any]]:
    """The matrices between the embeddings, and what changes them and everything else."""
    import torch

    inner = {id(p) for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    matrices = [p for p in model.parameters() if id(p) in inner]
    others = [p for p in model.parameters() if id(p) not in inner]
    return matrices, (
        torch.optim.SGD(matrices, lr=pace * MATRICES_RATE, weight_decay=0.01),
        torch.optim.AdamW(others, lr=pace * OTHERS_RATE, betas=(0.9, 0.95)),
    )


def _straighten(matrices: Sequence[Any], moments: Sequence[Any]) -> None:
    """Muon's step in place of each gradient: its momentum, with singular values that are all about one."""
    for matrix, moment in zip(matrices, moments, strict=True):
        moment.lerp_(matrix.grad, 1 - MOMENTUM)
        rows, columns = matrix.shape
        matrix.grad = max(1, rows / columns) ** 0.5 * _orthogonal(matrix.grad.lerp(moment, MOMENTUM))


def _orthogonal(matrix: Any) -> Any:
    """By Newton's and Schulz's iteration of the fifth order."""
    is_tall, x = matrix.shape[0] > matrix.shape[1], matrix / (matrix.norm() + 1e-7)
    x = x.T if is_tall else x
    for _ in range(5):
        gram = x @ x.T
        x = NEWTON_SCHULZ[0] * x + (NEWTON_SCHULZ[1] * gram + NEWTON_SCHULZ[2] * gram @ gram) @ x
    return x.T if is_tall else x


def _share_of_rate(step: int, steps: int) -> float:
    """Up in the first steps, and down from DECAYS_FROM on."""
    falling = max(0.0, (step / steps - DECAYS_FROM) / (1 - DECAYS_FROM))
    return min(1.0, step / WARM_STEPS) * (1 - 0.95 * falling)


def _loss(model: Any, ids: Any, learnt: Any) -> Any:
    """Of the tokens that are learnt, each after what stands before it."""
    import torch

    states = model.model(ids).last_hidden_state[:, :-1]
    chosen = learnt[:, 1:]
    return torch.nn.functional.cross_entropy(model.lm_head(states[chosen]), ids[:, 1:][chosen])


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """As an ordinary folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
