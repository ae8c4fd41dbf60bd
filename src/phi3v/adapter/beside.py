"""Parts that train whole beside a LoRA, as PEFT's `modules_to_save` on disk and in place in memory.

    model = LoraAdapter(r=16, alpha=32, whole=["projector"]).attach(model)

PEFT would keep a second copy of each such module and hide the first behind it. Here the base's own
weights train, in float32: a model that is divided, counted or saved in a checkpoint then has every
weight once, under its own name. What is written is the same: a module's weights stand in the file
under the names that they have in the base. `glb_GN` and `sub_GN` belong to the projector and to no
module that PEFT could name; they stand beside it, and PEFT puts them into the base by their names.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from phi3v.adapter.scope import check_scope
from phi3v.errors import UserError
from phi3v.model import Phi3VConfig
from phi3v.model.parts import PARTS, has_no_gradient, part_of
from phi3v.model.slices import is_hollow

MODULES = {"projector": "img_projection", "vision": "img_processor"}
SEPARATORS = ("vision_embed_tokens.glb_GN", "vision_embed_tokens.sub_GN")


def check_whole(whole: Sequence[str], scope: Sequence[str]) -> tuple[str, ...]:
    """Return the parts that train whole, in the order of the model's parts.

    Raises:
        UserError: When one does not exist, is adapted as well, or is the decoder.
    """
    if not whole:
        return ()
    parts = check_scope(whole, "adapter whole")
    if "decoder" in parts:
        raise UserError(
            "adapter whole: the decoder is most of the model; train it whole with adapter=full"
        )
    for part in parts:
        if part in scope:
            raise UserError(
                f"adapter whole: '{part}' is in adapter.scope as well; a part trains whole or has "
                "adapters"
            )
    return parts


def settings_of(model: PeftModel) -> LoraConfig:
    """The settings of the LoRA on a model."""
    return cast(LoraConfig, model.peft_config["default"])


def train_whole(model: PeftModel, config: Phi3VConfig, parts: Sequence[str]) -> None:
    """Let the parts train, in float32 whatever the base is in; in place.

    Args:
        model: With a LoRA that leaves these parts alone.
        config: Of the base: what of CLIP can get a gradient.
        parts: What `check_whole` returned.
    """
    settings_of(model).modules_to_save = [MODULES[part] for part in parts] or None
    for name, parameter in model.named_parameters():
        if part_of(name) in parts and not has_no_gradient(name, config):
            parameter.data = _as_dtype(parameter.data, torch.float32)
            parameter.requires_grad_(True)


def whole_weights(
    model: PeftModel, separators: Iterable[str] | None = None
) -> dict[str, nn.Parameter]:
    """Name -> parameter of all that stands in an adapter's file for parts that train whole.

    Args:
        model: With the modules in its configuration's `modules_to_save`.
        separators: Names in a file that is read; what PEFT wrote alone has none of the separators.
    """
    modules = list(settings_of(model).modules_to_save or ())
    found = {}
    for name, parameter in model.named_parameters():
        separate = name.endswith(SEPARATORS) and MODULES["projector"] in modules
        # As PEFT matches: "embed_tokens" means "vision_embed_tokens" too.
        if any(f"{module}." in name for module in modules) or (
            separate and (separators is None or name in separators)
        ):
            found[name] = parameter
    return found


def put_whole(parameter: nn.Parameter, value: Tensor) -> None:
    """Give a weight the value from a file, in the more precise of both types."""
    dtype = torch.promote_types(parameter.dtype, value.dtype)
    parameter.data = _as_dtype(parameter.data, dtype)
    parameter.data.copy_(value)


def parts_of_modules(modules: Iterable[str]) -> list[str]:
    """The parts that a configuration's `modules_to_save` stand for, others by their own names."""
    parts = {module: part for part, module in MODULES.items()}
    named = [parts.get(module, module) for module in modules]
    return sorted(named, key=lambda name: PARTS.index(name) if name in PARTS else len(PARTS))


def _as_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    if value.dtype == dtype:
        return value
    if is_hollow(value):  # and stays so
        return value[(0,) * value.ndim].to(dtype).expand(value.shape)
    return value.to(dtype)
