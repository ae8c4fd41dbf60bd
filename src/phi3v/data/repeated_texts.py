"""Texts that the small model repeats on request: words of many tasks, made-up ones, characters."""

import string
from collections.abc import Sequence

import numpy as np

# Words of many tasks, which are repeated on request and never part of another answer.
EVERYDAY = ("what", "is", "shown", "in", "this", "image", "photo", "the", "name", "of", "for",
            "and", "Product", "Category", "Brand", "Title", "Shop", "Season", "Full",
            "Item")  # fmt: skip
# Western and central European letters, dashes, quotes, the euro and the like.
FOREIGN = "".join(map(chr, range(0xA1, 0x180))).replace("\xad", "") + (
    "\u2013\u2014\u2018\u2019\u201c\u201d\u201e\u2022\u2026\u20ac\u2122"
)
# Never written, not even where a made-up word happens to come out so.
UNSAID = ("price", "cost")


def text_to_repeat(rng: np.random.Generator, words: Sequence[str]) -> str:
    """Two to six words or groups of characters of one kind.

    Args:
        rng: decides everything.
        words: what made-up words are made of.
    """
    while True:
        kind = int(rng.choice(3, p=(0.3, 0.5, 0.2)))
        pieces = [_piece(kind, rng, words) for _ in range(int(rng.integers(2, 7)))]
        text = " ".join(pieces)
        if not any(word in text.lower() for word in UNSAID):
            return text


def _piece(kind: int, rng: np.random.Generator, words: Sequence[str]) -> str:
    if kind == 0:
        return str(rng.choice(EVERYDAY))
    return _made_up(rng, words) if kind == 1 else _characters(rng)


def _made_up(rng: np.random.Generator, words: Sequence[str]) -> str:
    """A known word, or the beginning of one and the end of another, such as "Protton"."""
    first, last = (str(word) for word in rng.choice(words, size=2))
    if rng.random() < 0.3:
        return first
    word = first[: int(rng.integers(1, len(first) + 1))] + last[int(rng.integers(len(last))) :]
    return word.capitalize() if rng.random() < 0.3 else word


def _characters(rng: np.random.Generator) -> str:
    """One to four characters: ASCII, or letters and signs that are written as several bytes."""
    alphabet = string.ascii_letters * 2 + string.digits * 3 + string.punctuation
    if rng.random() < 0.2:
        alphabet = FOREIGN
    return "".join(rng.choice(list(alphabet), size=int(rng.integers(1, 5))))
