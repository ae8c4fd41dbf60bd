"""A base in four bits, for QLoRA: the decoder's linear layers as NF4, all the rest as it is.

`model.quantization=nf4` keeps a weight in a little over half a byte. Adapters on top learn as ever;
they learn to make up for the rounding too, so they belong to the quantised base.
Source: Dettmers et al. 2023, QLoRA.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import importlib.util
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from phi3v.errors import UserError
from phi3v.model.loading import Loaded, quiet

QUANTIZATIONS = ("nf4",)
# Pictures and the last word are small and feel rounding most.
_WHOLE = ["lm_head", "model.vision_embed_tokens"]


def check_quantization(name: str | None, hollow: bool = False) -> None:
    """Refuses what cannot be done with a quantised base.

    Args:
        name: As configured; None for no quantisation.
        hollow: Whether the weights are to be divided over processes.
    """
    if name is None:
        return
    if name not in QUANTIZATIONS:
        raise UserError(
            f"model.quantization: {name} is not one of null, {', '.join(QUANTIZATIONS)}"
        )
    if hollow:
        raise UserError(
            f"model.quantization={name}: four-bit weights cannot be divided over processes; use"
            " trainer=ddp or trainer=gpu"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"model.quantization={name}: needs bitsandbytes; pip install -e '.[qlora]'")


def bitsandbytes_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """Four bits with the scales quantised as well, computed with in `dtype`."""
    options: dict[str, Any] = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
        "llm_int8_skip_modules": _WHOLE,
    }
    return BitsAndBytesConfig(**options)


def dequantised(loaded: Loaded) -> Loaded:
    """The same with its four-bit weights as the numbers that they stand for, in place.

    It computes as the base did that an adapter was trained on, not as the checkpoint does.
    """
    if getattr(loaded.model, "is_quantized", False):
        with quiet():
            loaded.model.dequantize(loaded.model.lm_head.weight.dtype)
    return loaded
