"""An adapter that becomes part of the weights, and one that no longer needs a changed base.

model = merge(model)                                   # Phi3VForCausalLM with its published names
model = merge_into(model, "runs/lora_r16/2026-...")    # model.merge: for another adapter on top
tensors, config = as_plain_lora(model, before, config) # of PiSSA and OLoRA, see there
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from phi3v.adapter.folder import as_phi3v, load_adapter
from phi3v.adapter.order import KEY, check_base
from phi3v.adapter.reading import adapter_folder
from phi3v.errors import UserError
from phi3v.model import Phi3VForCausalLM


def merge(model: nn.Module) -> Phi3VForCausalLM:
    """Add what an adapter computes to the weights that it stands beside, in place.

    The sum is rounded to the type of those weights, so they should be in float32. Trained biases
    are weights of the base already, and stay.

    Args:
        model: Phi-3-Vision with a PEFT adapter; one without comes back as it is.

    Raises:
        UserError: When the adapter holds numbers that are not finite, or biases of its own that
            the weights have no place for.
    """
    if not isinstance(model, PeftModel):
        return as_phi3v(model)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            _check_bias(layer, "the adapter cannot be merged")
    try:
        merged: nn.Module = model.merge_and_unload(safe_merge=True)
    except ValueError as error:  # what "safe" refuses
        raise UserError(f"the adapter cannot be merged: {error}") from error
    return as_phi3v(merged)


def merge_into(
    model: Phi3VForCausalLM, path: str | Path, before: Sequence[str | Path] = ()
) -> Phi3VForCausalLM:
    """Make a saved adapter a part of the weights that it was trained on, in place.

    Each sum is taken in float32 and rounded once, to the type that the base is in.

    Args:
        model: The base of the adapter: with earlier ones merged in, where it was trained so.
        path: A PEFT folder, or a run that trained an adapter.
        before: What has been merged into the model already, in this order.

    Raises:
        UserError: When there is no adapter, it does not fit, it holds numbers that are not finite,
            the base is kept in four bits, or the adapter takes its start out of the base and this
            is another one than it was trained on.
    """
    folder = adapter_folder(path, KEY)
    if getattr(model, "is_quantized", False):
        raise UserError(
            f"{KEY}={folder}: a base in four bits would round the sum; merge without"
            " model.quantization: phi3v export RUN --merge OUT, then model.path=OUT"
        )
    check_base(path, before)
    dtype = model.lm_head.weight.dtype
    adapted = load_adapter(model, folder, key=KEY, before=[str(one) for one in before])
    assert isinstance(adapted, PeftModel)
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer):
            _merge_layer(layer, folder)
    base = as_phi3v(adapted.unload())
    for parameter in base.parameters():  # parts that were trained whole are in float32
        parameter.data = parameter.data.to(dtype)
    return base


def _check_bias(layer: LoraLayer, what: str) -> None:
    if any(layer.lora_bias.values()) and getattr(layer.get_base_layer(), "bias", None) is None:
        raise UserError(
            f"{what}: it was made with lora_bias=true, and this model has linear modules without a "
            "bias to add that to; train one without lora_bias"
        )


def _merge_layer(layer: LoraLayer, folder: Path) -> None:
    _check_bias(layer, f"{KEY}={folder}")
    linear = cast(nn.Linear, layer.get_base_layer())
    dtype = linear.weight.dtype
    linear.weight.data = linear.weight.data.float()
    try:
        layer.merge(safe_merge=True)
    except ValueError as error:
        raise UserError(f"{KEY}={folder}: {error}") from error
    linear.weight.data = linear.weight.data.to(dtype)


def takes_from_base(config: Mapping[str, Any]) -> bool:
    """Whether an adapter's start was taken out of the base, as PiSSA's and OLoRA's is.

    Args:
        config: The content of adapter_config.json.
    """
    return str(config.get("init_lora_weights")).startswith(("pissa", "olora"))


def as_plain_lora(
    trained: Mapping[str, Tensor], start: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Turn an adapter that took its start out of the base into one for the base as it was.

    With W' = W - s B0 A0 the trained weight is W' + s B A = W + s (B A - B0 A0), and the bracket is
    one product of twice the rank: [B, -B0] [A; A0].

    Args:
        trained: The adapter's tensors by PEFT's names.
        start: The same, as they were before training.
        config: The content of adapter_config.json.

    Returns:
        Tensors and configuration of a LoRA of twice the rank with the same scale.
    """
    tensors = {}
    for name, tensor in trained.items():
        if ".lora_A." in name:
            tensors[name] = torch.cat([tensor, start[name]], dim=0).contiguous()
        else:
            tensors[name] = torch.cat([tensor, -start[name]], dim=1).contiguous()
    # alpha / r, or alpha / sqrt(r), has to stay the same.
    grown = math.sqrt(2) if config["use_rslora"] else 2
    plain = {**config, "r": 2 * config["r"], "lora_alpha": grown * config["lora_alpha"]}
    return tensors, {**plain, "init_lora_weights": True}
