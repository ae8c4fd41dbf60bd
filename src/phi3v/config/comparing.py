"""Whether the models of two runs answer the same questions on the same base.

key = first_other(saved, plain)     # None where they do
"""

from collections.abc import Iterator, Mapping
from typing import Any

from phi3v.config.containers import dotted_keys, value_at
from phi3v.config.gate import settle
from phi3v.config.saving import completed, named_places, relocated

# Of the group `model`: how fast, or what only training looks at.
_FREE = {
    *("model.gradient_checkpointing", "model.vision_cache_gib", "model.attn_implementation"),
    *("model.learning_rate.lora", "model.learning_rate.full"),
    *("data.source.image_root", "data.source.cache_dir"),
}


def first_other(
    saved: Mapping[str, Any], plain: Mapping[str, Any]
) -> tuple[str, object, object] | None:
    """The first key by which two runs have another base, task or source of data.

    Args:
        saved: The configuration of one, as it is in its directory.
        plain: That of the other, resolved.

    Returns:
        The key and both values, or None.
    """
    one, other = dict(_compared(saved)), dict(_compared(plain))
    for key in {**one, **other}:
        if one.get(key) != other.get(key):
            return key, one.get(key), other.get(key)
    return None


def _compared(plain: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    places = named_places(plain["paths"])
    chosen = {
        "model": plain["model"],
        "task": plain["task"],
        "data": {"source": settle(dict(plain["data"])).get("source")},
    }
    chosen = {key: relocated(completed(value, key), places) for key, value in chosen.items()}
    for key in dotted_keys(chosen):
        value = value_at(chosen, key)
        if key not in _FREE and not isinstance(value, Mapping):
            yield key, value if value != [] else None  # as where the key is not there
