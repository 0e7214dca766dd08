"""Which model folders do the tests ask about? Tiny random ones, made with the real libraries."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

LABELS = ("negative", "neutral", "positive")
WORDS = (
    "a about again all am and are at awful bad be best but can did do ever film fine for game get go good great had "
    "happy hate have he her here how i in is it just like love made me more movie my never new no not now of on one "
    "our out really sad she so thank that the they this time to too very was we well what when will with work worst you"
)


def make_classifier(folder: Path, *, labels: tuple[str, ...] = LABELS, seed: int = 0, positions: int = 64) -> Path:
    """A BertForSequenceClassification of 2 layers and width 32, random but seeded, with a WordPiece tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    make_tokenizer(folder, max_length=positions)
    config = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertForSequenceClassification(config).save_pretrained(folder)
    return folder


SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizers split text, and with them many others."""

MARKERS = ("<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SAID = "The quick brown fox jumps over the lazy dog. (good) (good) (good) day, 1234 times! café; привет мир; 你好，世界"


def make_generator(
    folder: Path,
    *,
    seed: int = 0,
    positions: int = 512,
    width: int = 64,
    split: str = SPLIT,
    chat: str = CHAT,
    words: tuple[str, ...] = (),
) -> Path:
    """A LlamaForCausalLM of 2 layers, random but seeded, with byte pairs, whole words and a chat template."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*MARKERS], initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator([SAID] * 5, trainer)
    tokenizer.add_tokens([*words])
    ends = {"bos_token": MARKERS[0], "eos_token": MARKERS[1], "pad_token": MARKERS[1]}
    saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=positions, **ends)
    saved.chat_template = chat
    saved.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(saved),
        hidden_size=width,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.5,  # so that what comes next is not always the same
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def vocabulary() -> dict[str, int]:
    """The special tokens, letters, word pieces and some words: just under 200 entries."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters), *".,!?'-0123456789"]
    return {token: index for index, token in enumerate(dict.fromkeys([*pieces, *WORDS.split()]))}


def make_tokenizer(folder: Path, *, max_length: int) -> None:
    """What a fast BERT tokenizer leaves in a folder."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocab = vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": max_length, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2))


def copy_folder(source: Path, into: Path) -> Path:
    """A private copy that a test may damage."""
    shutil.copytree(source, into)
    return into


def edit_json(path: Path, **changes: object) -> None:
    """Change some keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def read_tensors(path: Path) -> tuple[dict[str, dict[str, object]], bytes]:
    """The header and the data of a safetensors file."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def write_tensors(path: Path, header: dict[str, object] | str, data: bytes) -> None:
    """A safetensors file with exactly this header, right or wrong."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
