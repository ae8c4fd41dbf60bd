"""Which values of a configuration are nobody else's business, and their places without them.

    Secrets(written, resolved).hidden()      # {"api_key": "<hidden>", "seed": 7}

Better too much than too little is hidden; null, true and false tell nothing and stay.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HIDDEN = "<hidden>"
Place = tuple[str, ...]
# Not every `_key`: data.columns and task.fields have the names of people's own columns for keys.
_SECRET = re.compile(
    r"(?:^|_|-)(?:token|password|passwd|passphrase|passcode|pwd|secrets?|credentials?|authorization"
    r"|(?:api|access|private|secret|account|auth|signing|encryption|storage|ssh|wandb|hf|hub"
    r"|huggingface|aws|azure|gcp|openai)[_-]?keys?)(?:_|-|$)",
    re.I,
)
_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*[\"']?([\w.-]+)")
_REFERENCE = re.compile(r"\$\{(?:oc\.select:)?\s*(\.*[\w.\[\]-]+)\s*[,}]")
# The part of an address before the host: user:password@ or a token alone.
_LOGIN = re.compile(r"(?<=://)[^/\s@]+(?=@)")
# A shorter secret is looked for where it is referred to, but not inside every other text.
_TELLING = 8


class Secrets:
    """The secrets of one configuration.

    Args:
        written: As it is written, with interpolations.
        resolved: The same with values in their places.
    """

    def __init__(self, written: Mapping[str, Any], resolved: Mapping[str, Any]) -> None:
        self.written = written
        self.resolved = resolved
        # Those that are typed where a reference should stand. A place is no secret.
        texts = [
            value
            for name, value in os.environ.items()
            if _telling(name) and not Path(value).is_absolute()
        ]
        texts += [
            str(value)
            for place, value in _leaves(resolved)
            if value is not None and self._is_secret(place)
        ]
        self.texts = {text for text in texts if len(text) >= _TELLING and text != HIDDEN}

    def hidden(self) -> dict[str, Any]:
        """The resolved configuration with `HIDDEN` for each secret."""
        return {key: self._hide(value, (str(key),)) for key, value in self.resolved.items()}

    def _hide(self, value: Any, place: Place) -> Any:
        if isinstance(value, Mapping):
            return {key: self._hide(item, (*place, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [self._hide(item, (*place, str(at))) for at, item in enumerate(value)]
        if value is None or value == "" or isinstance(value, bool):
            return value
        if self._is_secret(place):
            return HIDDEN
        if not isinstance(value, str):
            return value
        if any(text in value for text in self.texts):
            return HIDDEN
        return _LOGIN.sub(HIDDEN, value)

    def _is_secret(self, place: Place, seen: frozenset[Place] = frozenset()) -> bool:
        """Whether a key, one above it, or one that its value comes from has a telling name."""
        if any(_telling(word) for word in place):
            return True
        if place in seen:
            return False
        return any(self._is_secret(source, seen | {place}) for source in self._sources(place))

    def _sources(self, place: Place) -> Iterator[Place]:
        """The environment variables and keys that a value is made from."""
        node: Any = self.written
        for depth, word in enumerate(place):
            # A mapping may be an interpolation as a whole: what is below it is below the other.
            if isinstance(node, str):
                yield from ((*source, *place[depth:]) for source in _named(node, place[:depth]))
                return
            node = _child(node, word)
        if isinstance(node, str):
            yield from _named(node, place)


def _telling(name: str) -> bool:
    """Whether a key or an environment variable is called like a secret."""
    return name != "PWD" and bool(_SECRET.search(name))  # PWD is the shell's working directory


def _named(text: str, place: Place) -> Iterator[Place]:
    for name in _ENVIRONMENT.findall(text):
        yield (name,)
    for reference in _REFERENCE.findall(text):
        words = reference.lstrip(".")
        up = len(reference) - len(words)
        yield (*(place[:-up] if up else ()), *re.findall(r"[^.\[\]]+", words))


def _child(node: Any, word: str) -> Any:
    if isinstance(node, list):
        return node[int(word)] if word.isdigit() and int(word) < len(node) else None
    return node.get(word) if isinstance(node, Mapping) else None


def _leaves(node: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(node, Mapping | list):
        pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, value in pairs:
            yield from _leaves(value, (*place, str(key)))
    else:
        yield place, node
