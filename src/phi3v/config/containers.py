"""Plain nested dicts and their dotted keys: what becomes of OmegaConf's containers."""

from collections.abc import Mapping
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phi3v.config.types import UNKNOWN


def to_plain(cfg: DictConfig | Mapping[str, Any], resolve: bool = True) -> dict[str, Any]:
    """A configuration as plain dicts and lists.

    Args:
        cfg: A node; one that is plain already is only copied.
        resolve: Put the values in the place of interpolations. Mandatory values that are still
            open stay "???".
    """
    if not isinstance(cfg, DictConfig):
        return dict(cfg)
    return cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=resolve))


def resolved_in_part(node: DictConfig) -> dict[str, Any]:
    """A configuration as plain values where an interpolation that fails is `UNKNOWN`."""
    return {str(key): _value_or_unknown(node, key) for key in node}


def _value_or_unknown(node: DictConfig | ListConfig, key: Any) -> Any:
    if OmegaConf.is_missing(node, key):
        return "???"
    try:
        value = node[key]
    except OmegaConfBaseException:
        return UNKNOWN
    if isinstance(value, DictConfig):
        return resolved_in_part(value)
    if isinstance(value, ListConfig):
        return [_value_or_unknown(value, place) for place in range(len(value))]
    return value


def value_at(plain: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key, everything for the empty key, None when it does not exist.

    A number among the words counts the items of a list.
    """
    node: Any = plain
    for word in filter(None, key.split(".")):
        if isinstance(node, list):
            node = node[int(word)] if word.isdigit() and int(word) < len(node) else None
        else:
            node = node.get(word) if isinstance(node, Mapping) else None
    return node


def has_key(plain: Mapping[str, Any], key: str) -> bool:
    """Whether a dotted key exists; the last word may count the items of a list."""
    parent, _, last = key.rpartition(".")
    node = value_at(plain, parent)
    if isinstance(node, list):
        return last.isdigit() and int(last) < len(node)
    return isinstance(node, Mapping) and last in node


def some_keys(node: Mapping[Any, Any]) -> str:
    """The first few keys of a mapping, to show in one line what belongs into it."""
    names = [str(key) for key in node if key != "_target_"]
    return ", ".join(names[:5])


def dotted_keys(plain: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every key that a person can set, outer ones first."""
    keys: list[str] = []
    for key, value in plain.items():
        if key != "_target_":
            keys.append(f"{prefix}{key}")
            if isinstance(value, Mapping):
                keys += dotted_keys(value, f"{prefix}{key}.")
    return sorted(keys, key=lambda name: name.count("."))
