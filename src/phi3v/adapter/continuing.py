"""An adapter that begins with the weights of an earlier one (`adapter.init_from`).

    start_from(model, "runs/lora_r16/2026-01-01_12-00-00-000000")

What an adapter computes is decided by its settings as well: all of these have to be the same, and
one message says what to type for all that are not. The folder is read and never written.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel

from phi3v.adapter.beside import MODULES, parts_of_modules, settings_of
from phi3v.adapter.order import check_weights
from phi3v.adapter.reading import (
    adapted_modules,
    adapter_folder,
    changes_start,
    fill,
    modules_with_lora,
    read_adapter,
    read_settings,
    weight_names,
)
from phi3v.adapter.scope import ends_with, resolve_targets, short_name
from phi3v.errors import UserError
from phi3v.model.parts import PARTS, has_no_gradient, part_of

log = logging.getLogger(__name__)

KEY = "adapter.init_from"
_STARTS = ("True", "False", "gaussian", "orthogonal", "eva", "olora", "pissa")
_PREFIX = "base_model.model."
# What an adapter of ours says in other words, and what does not change what it computes.
_COMPARED = {
    *("r", "lora_alpha", "use_rslora", "use_dora", "bias", "init_lora_weights", "modules_to_save"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
}
_FREE = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
    *("revision", "inference_mode", "lora_dropout", "runtime_config", "megatron_config"),
    *("megatron_core", "loftq_config", "eva_config", "corda_config", "fan_in_fan_out"),
}


def check_start(path: str | Path, settings: Mapping[str, Any]) -> None:
    """Hold a folder's settings to those of an adapter, before there is a model.

    Args:
        path: A PEFT folder or a run.
        settings: r, alpha, use_rslora, use_dora, bias, init, whole, scope in the order of the
            model's parts, and targets for each of these.

    Raises:
        UserError: When there is no adapter, or one with other settings, with all those to type.
    """
    folder = adapter_folder(path, KEY)
    theirs = read_settings(folder)
    _refuse_foreign(path, theirs)
    there = adapted_modules(weight_names(folder))
    other = _other(settings, _as_settings(theirs))
    parts = _parts(there)
    if parts and parts != list(settings["scope"]):
        other["scope"] = parts
    for part in parts:
        names = _in_part(there, part)
        if not _reach(settings["targets"][part], names):
            other[f"targets.{part}"] = _named(theirs, names)
    _refuse_other(path, other)


def start_from(model: PeftModel, path: str | Path) -> None:
    """Give a freshly attached adapter the weights of a folder.

    Args:
        model: With an adapter whose settings `check_start` has let pass.
        path: A PEFT folder or a run.

    Raises:
        UserError: When the adapter there sits on other modules, with those to type, takes its start
            out of other weights, or cannot be read. What it has on modules that nothing reads is
            left out, with a line.
    """
    folder = adapter_folder(path, KEY)
    theirs, weights = read_adapter(folder)
    _refuse_other(path, _other(_as_settings(settings_of(model)), _as_settings(theirs)))
    check_weights(folder, theirs, model, KEY)
    base: Any = model.get_base_model()
    everywhere = adapted_modules(weights)
    idle = [name for name in everywhere if has_no_gradient(f"{name}.weight", base.config)]
    if idle:  # as every short name of CLIP's modules means one in its last layer
        log.info(
            "%s=%s: that adapter is on %s too, which nothing reads; what it has on %d such modules "
            "is left out", KEY, path, idle[0], len(idle),
        )  # fmt: skip
        parts = tuple(f"{_PREFIX}{name}." for name in idle)
        weights = {name: one for name, one in weights.items() if not name.startswith(parts)}
    here, there = modules_with_lora(model), adapted_modules(weights)
    if set(here) != set(there):
        _refuse_other(path, _other_modules(model, here, there))
    fill(model, weights, f"{KEY}: the weights in {folder}")


def _as_settings(config: LoraConfig) -> dict[str, Any]:
    """A PEFT configuration in the words of the group `adapter`."""
    init = config.init_lora_weights
    return {
        "r": config.r,
        "alpha": config.lora_alpha,
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
        "bias": config.bias,
        "init": str(init) if changes_start(config) else None,
        "whole": parts_of_modules(config.modules_to_save or ()),
    }


def _other(here: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not the same, as they would have to be."""
    return {key: there[key] for key in there if _plain(here[key]) != _plain(there[key])}


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, list | tuple) else value


def _other_modules(model: PeftModel, here: list[str], there: list[str]) -> dict[str, Any]:
    """The scope and the targets that would make an adapter sit where the other one does."""
    parts = _parts(there)
    other: dict[str, Any] = {} if parts == _parts(here) else {"scope": parts}
    for part in parts:
        mine, theirs = _in_part(here, part), _in_part(there, part)
        if mine and set(mine) != set(theirs):
            other[f"targets.{part}"] = _shortest(model, theirs, part)
    return other


def _parts(names: Sequence[str]) -> list[str]:
    return [part for part in PARTS if any(part_of(name) == part for name in names)]


def _reach(targets: Iterable[str], names: Sequence[str]) -> bool:
    """Whether these modules may be all that the targets mean; only a model knows for sure."""
    met = [{name for name in names if ends_with(name, target)} for target in targets]
    return all(met) and set().union(*met) == set(names)


def _named(config: LoraConfig, names: Sequence[str]) -> list[str]:
    """What to call the modules of a part: by the folder's own targets where these mean no more."""
    targets = config.target_modules
    left_out = config.exclude_modules or config.layers_to_transform is not None
    if left_out or not isinstance(targets, list | set):
        return list(names)
    return sorted(one for one in targets if any(ends_with(name, one) for name in names))


def _in_part(names: Iterable[str], part: str) -> list[str]:
    return [name for name in names if part_of(name) == part]


def _shortest(model: PeftModel, wanted: Sequence[str], part: str) -> list[str]:
    """Short names where these mean the same modules of the part, full ones otherwise."""
    modules = [name.removeprefix(_PREFIX) for name, _ in model.named_modules()]
    names = [n for n in modules if n and part_of(n) == part and ".lora_" not in n]
    short = list(dict.fromkeys(short_name(name) for name in wanted))
    found = {n for target in short for n in resolve_targets(names, target, part)}
    return short if found <= set(wanted) else list(wanted)


def _refuse_other(path: str | Path, other: Mapping[str, Any]) -> None:
    if other:
        words = " ".join(f"adapter.{key}={_typed(value)}" for key, value in other.items())
        raise UserError(f"{KEY}={path}: that adapter has other settings; give {words}")


def _typed(value: Any) -> str:
    match value:
        case None:
            return "default"  # only a start that is no longer there is called so
        case bool():
            return str(value).lower()
        case list():
            return f"[{','.join(value)}]"
    return str(value)


def _refuse_foreign(path: str | Path, config: LoraConfig) -> None:
    """Refuse what PEFT can do and an adapter of ours cannot."""
    usual = LoraConfig()
    free, found = _COMPARED | _FREE, {}
    for key in (field.name for field in fields(config)):
        value = getattr(config, key)
        if key not in free and value and value != getattr(usual, key):
            found[key] = value
    if strange := set(config.modules_to_save or ()) - set(MODULES.values()):
        found["modules_to_save"] = sorted(strange)
    if not str(config.init_lora_weights).startswith(_STARTS):
        found["init_lora_weights"] = config.init_lora_weights
    if found:
        words = " and ".join(f"{key}={value}" for key, value in found.items())
        raise UserError(f"{KEY}={path}: that adapter has {words}, which cannot be trained here")
