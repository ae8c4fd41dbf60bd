"""An adapter that begins with the weights of an earlier one (`adapter.init_from`).

    start_from(model, "runs/lora_r16/2026-01-01_12-00-00-000000")

What an adapter computes is decided by its settings as well: all of these have to be the same, and
the message says what to type. The folder is read and never written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel

from phi3v.adapter.beside import MODULES, parts_of_modules, settings_of
from phi3v.adapter.reading import adapter_folder, changes_start, fill, read_adapter, read_settings
from phi3v.adapter.scope import resolve_targets, short_name
from phi3v.errors import UserError
from phi3v.model.parts import PARTS, part_of

KEY = "adapter.init_from"
_STARTS = ("True", "False", "gaussian", "orthogonal", "eva", "olora", "pissa")
_PREFIX, _LORA = "base_model.model.", ".lora_A.weight"
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
        settings: r, alpha, use_rslora, use_dora, bias, init and whole.

    Raises:
        UserError: When there is no adapter, or one with other settings, with those to type.
    """
    theirs = read_settings(adapter_folder(path, KEY))
    _refuse_foreign(path, theirs)
    _refuse_other(path, _other(settings, _as_settings(theirs)))


def start_from(model: PeftModel, path: str | Path) -> None:
    """Give a freshly attached adapter the weights of a folder.

    Args:
        model: With an adapter whose settings `check_start` has let pass.
        path: A PEFT folder or a run.

    Raises:
        UserError: When the adapter there sits on other modules, or cannot be read.
    """
    folder = adapter_folder(path, KEY)
    theirs, weights = read_adapter(folder)
    _refuse_other(path, _other(_as_settings(settings_of(model)), _as_settings(theirs)))
    there = [
        name.removeprefix(_PREFIX).removesuffix(_LORA) for name in weights if name.endswith(_LORA)
    ]
    here = [
        name.removeprefix(_PREFIX) for name, module in model.named_modules()
        if hasattr(module, "lora_A") and len(module.lora_A)
    ]  # fmt: skip
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
    """The scope or the targets that would make an adapter sit where the other one does."""
    parts = [part for part in PARTS if any(part_of(name) == part for name in there)]
    if parts != [part for part in PARTS if any(part_of(name) == part for name in here)]:
        return {"scope": parts}
    other = {}
    for part in parts:
        mine, theirs = _in_part(here, part), _in_part(there, part)
        if set(mine) != set(theirs):
            other[f"targets.{part}"] = _shortest(model, theirs, part)
    return other


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
    for key in (field.name for field in fields(config)):
        value = getattr(config, key)
        if key not in _COMPARED | _FREE and value and value != getattr(usual, key):
            raise UserError(
                f"{KEY}={path}: that adapter has {key}={value}, which cannot be trained here"
            )
    if strange := set(config.modules_to_save or ()) - set(MODULES.values()):
        raise UserError(
            f"{KEY}={path}: that adapter has modules_to_save={sorted(strange)}, which cannot be "
            "trained here"
        )
    if not str(config.init_lora_weights).startswith(_STARTS):
        raise UserError(
            f"{KEY}={path}: that adapter began with {config.init_lora_weights}, which cannot be "
            "trained here"
        )
