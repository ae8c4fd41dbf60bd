"""Reads an adapter's folder: its settings, its weights, and these into a model that has a place.

config, weights = read_adapter(adapter_folder("runs/lora_r16/..."))
fill(model, weights, "the weights in ...")
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    PeftType,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from phi3v.adapter.beside import put_whole, whole_weights
from phi3v.adapter.faults import first_fault
from phi3v.adapter.state import check_same_tensors
from phi3v.errors import UserError
from phi3v.model.parts import published_name
from phi3v.model.slices import is_hollow

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX, _LORA = "base_model.model.", ".lora_A.weight"
# Starts that are taken out of the base's weights, so that the base is another one afterwards.
_SUBTRACTED = ("pissa", "olora", "loftq", "corda")


def adapter_folder(path: str | Path, key: str) -> Path:
    """The PEFT folder that a path means: itself, or the one in a run's directory.

    Args:
        path: Of a PEFT folder or of a run.
        key: What the path was given for, for the error.

    Raises:
        UserError: When there is none.
    """
    path = Path(path).expanduser()
    for folder in (path, path / "adapter"):
        if (folder / CONFIG).is_file():
            return folder
    if (path / "model" / "config.json").is_file():
        raise UserError(
            f"{key}={path}: this run trained a whole model; give model.path={path / 'model'}"
        )
    raise UserError(
        f"{key}={path}: there is no {CONFIG} in it; give a PEFT folder or the directory of a run"
    )


def read_adapter(folder: Path) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The settings and the weights of a folder that `save_adapter` or PEFT wrote.

    Raises:
        UserError: When they cannot be read, are of another kind than LoRA, or are no numbers.
    """
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder}: no {WEIGHTS} beside {CONFIG}; pickled weights are not read")
    config = read_settings(folder)
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise UserError(f"{folder}: the adapter cannot be read ({error})") from error
    for name, tensor in weights.items():
        # torch does not look into the types of one byte.
        wide = tensor.float() if tensor.element_size() == 1 else tensor
        if not wide.isfinite().all():
            raise UserError(f"{folder}: {name} holds numbers that are not finite")
    return config, weights


def weight_names(folder: Path) -> list[str]:
    """The names of an adapter's tensors, read without these.

    Raises:
        UserError: When they cannot be read.
    """
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder}: no {WEIGHTS} beside {CONFIG}; pickled weights are not read")
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / WEIGHTS}: the adapter cannot be read ({error})") from None


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The content of adapter_config.json, as it stands there.

    Raises:
        UserError: When it is missing or torn.
    """
    file = folder / CONFIG
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: the adapter cannot be read ({error})") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{file}: the adapter cannot be read (it holds no settings by name)")
    return loaded


def read_settings(folder: Path) -> LoraConfig:
    """The settings alone.

    Raises:
        UserError: As for `read_adapter`.
    """
    kind = read_adapter_config(folder).get("peft_type")
    try:
        PeftType(kind)
    except ValueError:
        raise UserError(f"{folder}: its peft_type is {kind!r}, only LORA is read") from None
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder}: the adapter cannot be read ({one_line(error)})") from error
    if not isinstance(config, LoraConfig):
        raise UserError(f"{folder}: holds an adapter of type {config.peft_type}, only LoRA is read")
    if fault := first_fault(config):
        raise UserError(f"{folder}: {fault}")
    config.inference_mode = True
    return config


def fill(model: PeftModel, weights: dict[str, Tensor], what: str, adapter: str = "default") -> None:
    """Give an adapter that is attached the weights from a file.

    Args:
        model: With an adapter of the same settings.
        weights: All that stood in the file.
        what: What the weights are called in the error.
        adapter: The name that the adapter has on the model.

    Raises:
        UserError: When one is missing, left over or of another shape, or weights of another base
            stand beside them; nothing is changed then.
    """
    whole = whole_weights(model, weights) if adapter == "default" else {}
    place = {**adapter_tensors(model, adapter), **whole}
    weights = _without_base(model, weights, place, what)
    check_same_tensors(place, weights, what)
    for name, parameter in model.named_parameters():
        if name in weights and is_hollow(parameter):  # there is nothing to copy into
            parameter.data = parameter.data.contiguous()
    for name, parameter in whole.items():
        put_whole(parameter, weights[name])
    lora = {name: tensor for name, tensor in weights.items() if name not in whole}
    set_peft_model_state_dict(model, lora, adapter_name=adapter)


def _without_base(
    model: PeftModel, weights: dict[str, Tensor], place: Mapping[str, Tensor], what: str
) -> dict[str, Tensor]:
    """All but copies of the base's own weights, which PEFT saves with an adapter on lm_head."""
    own = dict(model.named_parameters())
    copies = {name: own[name].detach() for name in weights if name in own and name not in place}
    other = [name for name, one in copies.items() if not _is_copy(weights[name], one)]
    if other:
        raise UserError(
            f"{what} hold {len(other)} of a base beside the adapter ({published_name(other[0])}), "
            "as PEFT saves with one on lm_head or for more tokens, and this model's are others; "
            "load the base that it was trained on, or save it there with "
            "save_embedding_layers=False"
        )
    return {name: tensor for name, tensor in weights.items() if name not in copies}


def _is_copy(tensor: Tensor, own: Tensor) -> bool:
    return tensor.shape == own.shape and torch.equal(tensor.to(own), own)


def adapter_tensors(model: PeftModel, adapter: str = "default") -> dict[str, Tensor]:
    """Name in the file -> tensor of all that PEFT has put on a model."""
    # Without the flag PEFT asks the hub whether the base's vocabulary was resized.
    state: dict[str, Tensor] = get_peft_model_state_dict(
        model, adapter_name=adapter, save_embedding_layers=False
    )
    return state


def adapted_modules(names: Iterable[str]) -> list[str]:
    """The modules that the tensors of an adapter's file are for, by their names in the base."""
    return [
        name.removeprefix(_PREFIX).removesuffix(_LORA) for name in names if name.endswith(_LORA)
    ]


def modules_with_lora(model: PeftModel) -> list[str]:
    """The modules of a model that PEFT has put a LoRA on, by their names in the base."""
    return [
        name.removeprefix(_PREFIX) for name, module in model.named_modules()
        if hasattr(module, "lora_A") and len(module.lora_A)
    ]  # fmt: skip


def one_line(error: Exception) -> str:
    """What an error of PEFT says, which may have several lines."""
    return " ".join(str(error).split())


def leaves_base_alone(config: LoraConfig) -> bool:
    """Whether an adapter's base is untouched as soon as the adapter is switched off."""
    untouched = config.bias == "none" and not config.modules_to_save
    return untouched and not changes_start(config)


def changes_start(config: LoraConfig) -> bool:
    """Whether the adapter's start is subtracted from the base."""
    return str(config.init_lora_weights).lower().startswith(_SUBTRACTED)
