"""The one place where `_target_` becomes an object, and the list of what it may name.

    model = instantiate(cfg.model)
    source = instantiate_source(cfg.data)
    data = instantiate(cfg.data, source=source, task=task, processor=processor)

A prefix such as `lightning.` would not be enough: below it there are functions that unpickle files
or run code from elsewhere. So third-party classes are listed one by one, and of our own package
only classes that are written in the rooms below, never what those happen to import.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from phi3v.config.containers import to_plain
from phi3v.config.signatures import Constructor, read_constructor
from phi3v.errors import UserError

# Rooms whose classes a configuration may name, by the group that names them.
ROOMS = {
    "model": "model",
    "adapter": "adapter",
    "task": "task",
    "data": "data",
    "optimizer": "optim",
    "scheduler": "optim",
    "callbacks": "training",
    "trainer": "training",  # its strategy; the trainer is Lightning's own
}
_LOGGERS = "lightning.pytorch.loggers"
_CALLBACKS = "lightning.pytorch.callbacks"
THIRD_PARTY = {
    "trainer": {"lightning.Trainer"},
    "logger": {
        f"{_LOGGERS}.CSVLogger",
        f"{_LOGGERS}.TensorBoardLogger",
        f"{_LOGGERS}.WandbLogger",
    },
    "callbacks": {
        f"{_CALLBACKS}.DeviceStatsMonitor",
        f"{_CALLBACKS}.EarlyStopping",
        f"{_CALLBACKS}.LearningRateMonitor",
        f"{_CALLBACKS}.RichProgressBar",
        f"{_CALLBACKS}.Timer",
        f"{_CALLBACKS}.TQDMProgressBar",
    },
    "strategy": {"lightning.pytorch.strategies.DDPStrategy"},
}
_HYDRA_WORDS = {"_args_", "_partial_", "_recursive_", "_convert_"}


def allow(target: object, where: str) -> Constructor:
    """Let a `_target_` pass, or refuse it; imports nothing.

    Args:
        target: What stands behind `_target_`.
        where: The key it stands under, for the error.

    Raises:
        UserError: When it is not on the list, or there is no such class.
    """
    if not isinstance(target, str):
        raise UserError(f"{where}._target_={target}: expected the dotted name of a class")
    if any(target in names for names in THIRD_PARTY.values()):
        return read_constructor(target)
    allowed = {f"phi3v.{room}" for room in ROOMS.values()}
    if ".".join(target.split(".")[:2]) in allowed:
        constructor = read_constructor(target)
        if ".".join(constructor.module.split(".")[:2]) in allowed:
            return constructor
    raise UserError(
        f"{where}._target_={target} is not allowed: configurations may name the classes of this "
        "package and those listed in phi3v/config/gate.py"
    )


def check_targets(value: object, where: str) -> None:
    """Walk a plain value and refuse any `_target_` that is not allowed, however deep it stands.

    Raises:
        UserError: At the first one.
    """
    if isinstance(value, Mapping):
        if "_target_" in value:
            allow(value["_target_"], where)
        for key in _HYDRA_WORDS & value.keys():
            raise UserError(f"{where}.{key} is not supported: a file is one plain constructor call")
        for key, item in value.items():
            check_targets(item, f"{where}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            check_targets(item, f"{where}[{number}]")


def instantiate(node: DictConfig | Mapping[str, Any], **given: Any) -> Any:
    """Build the object that a node describes, and first those inside it.

    Args:
        node: A mapping with `_target_` and the constructor's arguments.
        given: Arguments that only the run knows; they win over the node's.

    Returns:
        The object. Its constructor gets plain lists, dicts and numbers, never OmegaConf's, and
        none of the keys that `settle` takes out.

    Raises:
        UserError: When a `_target_` is not allowed, or the constructor says so.
    """
    plain = settle(to_plain(node))
    check_targets(plain, plain.get("_target_", "node"))
    return _build({key: item for key, item in plain.items() if key not in given}, given)


def instantiate_source(data: DictConfig | Mapping[str, Any]) -> Any:
    """Build the source of a data node alone, with the short keys that are meant for it."""
    return instantiate(settle(to_plain(data))["source"])


def settle(node: dict[str, Any]) -> dict[str, Any]:
    """Hand the keys of a node that only its `source` understands down to the source.

    `data.path` is short for `data.source.path`. Keys that neither understands are settings that
    the run reads itself (phi3v/config/schema.py lists them) and are left out.
    """
    if "source" not in node or not isinstance(node["source"], Mapping):
        return node
    outer = read_constructor(node["_target_"]).parameters
    inner = read_constructor(node["source"]["_target_"]).parameters
    short = {key: value for key, value in node.items() if key in inner and key not in outer}
    kept = {key: value for key, value in node.items() if key in outer or key == "_target_"}
    for key in short.keys() & node["source"].keys():
        raise UserError(f"data.{key} and data.source.{key} are the same thing: set one of them")
    return {**kept, "source": {**node["source"], **short}}


def _build(value: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_build(item, {}) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {key: _build(item, {}) for key, item in value.items() if key != "_target_"}
    if "_target_" not in value:
        return arguments
    module, _, name = value["_target_"].rpartition(".")
    constructor = getattr(importlib.import_module(module), name)
    return constructor(**arguments, **given)
