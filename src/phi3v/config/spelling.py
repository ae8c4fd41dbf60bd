"""The nearest valid name for a misspelt one."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `name`, or None when none looks like it."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """The known dotted key that a person most likely meant.

    Tried in this order: the same last word elsewhere (`lr` for `optimizer.lr`), a slip in one of
    the words (`optimzer.lr`, `optimizer.lrr`), a slip in the last word elsewhere.
    """
    keys = list(known)
    last = key.rpartition(".")[2]
    if "." not in key:
        same = [candidate for candidate in keys if candidate.rpartition(".")[2] == last]
        if same:
            return min(same, key=lambda candidate: candidate.count("."))
    siblings = [candidate for candidate in keys if candidate.count(".") == key.count(".")]
    if near := nearest(key, siblings) or nearest(key, keys):
        return near
    endings = {candidate.rpartition(".")[2]: candidate for candidate in reversed(keys)}
    near = nearest(last, endings)
    return endings[near] if near else None
