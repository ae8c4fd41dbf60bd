"""An adapter that becomes part of the weights, and one that no longer needs a changed base.

model = merge(model)                                   # Phi3VForCausalLM with its published names
tensors, config = as_plain_lora(model, before, config) # of PiSSA and OLoRA, see there
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from phi3v.adapter.folder import as_phi3v
from phi3v.errors import UserError
from phi3v.model import Phi3VForCausalLM


def merge(model: nn.Module) -> Phi3VForCausalLM:
    """Add what an adapter computes to the weights that it stands beside, in place.

    The sum is rounded to the type of those weights, so they should be in float32. Trained biases
    are weights of the base already, and stay.

    Args:
        model: Phi-3-Vision with a PEFT adapter; one without comes back as it is.

    Raises:
        UserError: When the adapter holds numbers that are not finite.
    """
    if not isinstance(model, PeftModel):
        return as_phi3v(model)
    try:
        merged: nn.Module = model.merge_and_unload(safe_merge=True)
    except ValueError as error:  # what "safe" refuses
        raise UserError(f"the adapter cannot be merged: {error}") from error
    return as_phi3v(merged)


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
