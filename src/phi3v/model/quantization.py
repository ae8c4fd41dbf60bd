"""A base in four bits, for QLoRA: the decoder's linear layers as NF4, all the rest as it is.

`model.quantization=nf4` keeps a weight in a little over half a byte. Adapters on top learn as ever;
they learn to make up for the rounding too, so they belong to the quantised base.
Source: Dettmers et al. 2023, QLoRA.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import importlib
import importlib.util
import logging
import sys
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from phi3v.errors import UserError
from phi3v.model.configuration import Phi3VConfig
from phi3v.model.loading import Loaded, quiet

QUANTIZATIONS = ("nf4",)
_BLOCK = 64
# Pictures and the last word are small and feel rounding most.
_WHOLE = ["lm_head", "model.vision_embed_tokens"]
# By which a layer of bitsandbytes knows that it may pack its weights for the CPU.
_PACKS = "support_avx512bf16_for_cpu"


def import_bitsandbytes() -> None:
    """Imports bitsandbytes, where it is installed, without what it would fetch and compile.

    On CPUs that multiply bfloat16 it asks the hub for compiled code if `kernels` is installed, and
    warns of it if that is not. For devices that it has no code for, it lets torch compile its own:
    that brings torch's compiler into every program, a fifth of its start, also where nothing
    is quantised. They compute the same without. PEFT imports it as well: call this first.
    """
    if "bitsandbytes" in sys.modules or importlib.util.find_spec("bitsandbytes") is None:
        return
    kernels = sys.modules.get("kernels")
    said = logging.getLogger("bitsandbytes.backends.cpu.ops")
    sys.modules["kernels"] = None  # type: ignore[assignment]  # Python's way: it cannot be imported
    said.disabled = True
    compiles = torch.compile
    torch.compile = lambda function, **_: function  # type: ignore[assignment]
    try:
        importlib.import_module("bitsandbytes")
    finally:
        torch.compile = compiles
        said.disabled = False
        del sys.modules["kernels"]
        if kernels is not None:
            sys.modules["kernels"] = kernels


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


def check_widths(path: str, config: Phi3VConfig) -> None:
    """Refuses layers of which a row is no whole number of blocks.

    Each block of numbers has one scale, and on some CPUs bitsandbytes computes with the scale of
    another block where rows end within one.
    """
    for name in ("hidden_size", "intermediate_size"):
        width = getattr(config, name)
        if width % _BLOCK:
            raise UserError(
                f"model.quantization=nf4: {path}: its {name} of {width} is no multiple of {_BLOCK},"
                " the numbers that share a scale; use model.quantization=null"
            )


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


def keep_numbers(model: nn.Module) -> None:
    """Lets four-bit layers compute alike on every CPU, and in evaluation as in training.

    On CPUs that multiply bfloat16, bitsandbytes packs the weights of a layer anew when it first
    evaluates: it computes in bfloat16 from then on, whatever the type of the model, takes rounded
    scales for the rest of the run.
    """
    for module in model.modules():
        if hasattr(module, _PACKS):
            setattr(module, _PACKS, False)


def dequantised(loaded: Loaded) -> Loaded:
    """The same with its four-bit weights as the numbers that they stand for, in place.

    It computes as the base did that an adapter was trained on, not as the checkpoint does.
    """
    if getattr(loaded.model, "is_quantized", False):
        with quiet():
            loaded.model.dequantize(loaded.model.lm_head.weight.dtype)
    return loaded
