"""A base into which trained adapters have been merged (`model.merge`), for another one on top.

    model = merge_into(model, "runs/lora_r16/2026-01-01_12-00-00-000000")

Each sum is taken in float32 and rounded once, to the type that the base is in.
"""

from pathlib import Path
from typing import cast

from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from phi3v.adapter.folder import load_adapter
from phi3v.adapter.reading import adapter_folder
from phi3v.errors import UserError
from phi3v.model import Phi3VForCausalLM

KEY = "model.merge"


def merge_into(model: Phi3VForCausalLM, path: str | Path) -> Phi3VForCausalLM:
    """Make an adapter a part of the weights that it was trained on, in place.

    Args:
        model: The base of the adapter: with earlier ones merged in, where it was trained so.
        path: A PEFT folder, or a run that trained an adapter.

    Raises:
        UserError: When there is no adapter, it does not fit, or it holds numbers that are not
            finite.
    """
    folder = adapter_folder(path, KEY)
    dtype = model.lm_head.weight.dtype
    adapted = load_adapter(model, folder)
    assert isinstance(adapted, PeftModel)
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer):
            _merge(layer, folder)
    base = adapted.unload()
    assert isinstance(base, Phi3VForCausalLM)
    for parameter in base.parameters():  # parts that were trained whole are in float32
        parameter.data = parameter.data.to(dtype)
    return base


def _merge(layer: LoraLayer, folder: Path) -> None:
    linear = cast(nn.Linear, layer.get_base_layer())
    dtype = linear.weight.dtype
    linear.weight.data = linear.weight.data.float()
    try:
        layer.merge(safe_merge=True)
    except ValueError as error:
        raise UserError(f"{KEY}={folder}: {error}") from error
    linear.weight.data = linear.weight.data.to(dtype)
