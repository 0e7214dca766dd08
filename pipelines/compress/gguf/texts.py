"""On which texts are two tokenizers compared? Some hundred of every kind that a user may write.

None holds characters that a normalizer composes: llama.cpp normalizes nothing, whatever the tokenizer says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

_PLAIN = (
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    "It's what we'd've said: they're here, I'M NOT, can't, won't, you'll.",
    "state-of-the-art (2024), e.g. 50% off — “really?” ‘yes’… no!!! ?? :-) ;)",
    "CamelCase snake_case kebab-case SCREAMING mIxEd iPhone McDonald",
    "a", "A", " a", "a ", ".", "!?", "''", '"', "\\", "…",
)  # fmt: skip
_NUMBERS = (
    "0", "7", "42", "100", "2024", "12345", "123456", "1234567890", "3.14159", "-1,000,000.50", "1e-9", "0x1F", "٣٤٥",
    "½ ² ③ Ⅷ", "+49 (0)30 901820", "12:34:56", "2024-02-29T23:59:60Z", "192.168.0.1", "v1.2.3-rc4", "€ 9,99", "1/2",
)  # fmt: skip
_SPACES = (
    " ", "  ", "   ", "\t", "\n", "\n\n", " \n", "\n ", "\r\n", "\r", " \t \n ", "a  b", "a   b", "a\tb", "a\n\n\nb",
    "a \n b", "  leading", "trailing  ", "\n\n\n\n", "a\u00a0b", "a\u2003b", "a\u200bb", "a\u3000b", "end.\n", "\n.",
)  # fmt: skip
_CODE = (
    "def f(x):\n    return x ** 2  # square\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i]; }",
    '{"name": "x", "values": [1, 2.5, null, true], "nested": {"a": {}}}',
    "<html><body class='a'>&amp;&lt;</body></html>",
    "SELECT * FROM t WHERE a <> 'b' AND c >= 10;",
    "\tif err != nil {\n\t\treturn nil, err\n\t}\n",
    "https://example.org/a/b?c=d&e=%20f#g user.name+tag@example.org",
    "```python\nprint('hi')\n```", "a->b::c == !d && (e || ~f) ^ g", "$x = @$y['z'] ?? null;", "C:\\Users\\x\\y.txt",
    "\\frac{a}{b} \\sum_{i=0}^{n} x_i^2", "| a | b |\n|---|---|\n| 1 | 2 |\n", "- [ ] todo\n- [x] done\n\n1. one\n",
)  # fmt: skip
_SCRIPTS = (
    "Ça va très bien, où êtes-vous ? Straße, Größe, Ærø, łódź, şğı", "Привет, как дела? Ёлка и съезд.",
    "Γειά σου Κόσμε, τι κάνεις;", "שלום עולם, מה שלומך?", "مرحبا بالعالم، كيف حالك؟", "你好，世界！今天天气怎么样？",
    "こんにちは、世界。カタカナとひらがな", "안녕하세요 세계, 잘 지내세요?", "สวัสดีชาวโลก", "नमस्ते दुनिया", "বাংলা ভাষা",
    "தமிழ் மொழி", "Xin chào thế giới", "ქართული ენა", "Հայերեն լեզու", "ភាសាខ្មែរ", "አማርኛ ቋንቋ", "ᏣᎳᎩ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛",
)  # fmt: skip
_EMOJI = (
    "🙂", "🚀🚀", "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "👍🏽", "🇩🇪🇫🇷", "1️⃣", "✅ done", "😶\u200d🌫️ fog", "❤️",
    "a🦙b", "🤖: beep", "☃", "♟︎", "\ufeffx", "\u202eabc", "\x00", "\x07\x1b[0m", "\x7f",
)  # fmt: skip

FIXED = (*_PLAIN, *_NUMBERS, *_SPACES, *_CODE, *_SCRIPTS, *_EMOJI)


def texts(markers: Sequence[str]) -> tuple[str, ...]:
    """The fixed texts, pairs of them, and the tokenizer's own markers in places where templates and users put them."""
    return (*FIXED, *_pairs(), *_marked(markers))


def _pairs() -> Iterator[str]:
    """Neighbours of different kinds: what splits a text looks at both sides."""
    kinds = (_PLAIN, _NUMBERS, _SCRIPTS, _EMOJI, _SPACES, _CODE)
    for first, second in itertools.permutations(kinds, 2):
        for index in range(0, min(len(first), len(second)), 2):
            yield first[index] + second[-1 - index]


def _marked(markers: Sequence[str]) -> Iterator[str]:
    for marker in markers:
        yield from (marker, f"a{marker}b", f" {marker} ", f"{marker}\n", f"{marker}{marker}", marker[:-1])
    yield "".join(f"{marker}x\n" for marker in markers)
