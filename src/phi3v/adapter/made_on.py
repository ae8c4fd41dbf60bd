"""Which weights an adapter was made on: a few of their numbers, kept in the adapter's own file.

    numbers = sample(model)                       # before PEFT takes a start out of the weights
    save_file(tensors, file, metadata=as_metadata(model))
    is_other(read_sample(folder), numbers)        # True: certainly other weights

PiSSA and OLoRA take their start out of the base once more when they are loaded. A path says little
of what is taken out of: folders move, are written anew, and get other adapters merged in. So each
module that is adapted gives sixteen of its numbers, which fit no other weights.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from phi3v.adapter.reading import WEIGHTS, adapted_modules, modules_with_lora

Sample = Mapping[str, Tensor]
_KEY = "made_on"
_NUMBERS = 16
_STRIDE = 1_000_003  # a prime: no row or column is met twice as often as the others
# Sums of the same adapters differ in their last digits from machine to machine, and so do a few
# numbers that are rounded to sixteen bits.
_ROUNDING, _FEW = 3e-5, 1 / 8


def sample(model: nn.Module) -> dict[str, Tensor]:
    """Name -> float32 (16,) of every linear module of a base whose weights are plain numbers."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.weight.is_floating_point():
            numbers = module.weight.detach().flatten()
            places = torch.arange(_NUMBERS, device=numbers.device) * _STRIDE % len(numbers)
            found[name] = numbers[places].float().cpu()
    return found


def remember(model: PeftModel, numbers: Sample) -> None:
    """Note on a model what its adapted modules were before their start was taken out."""
    known: Any = model
    known.made_on = {name: numbers[name] for name in modules_with_lora(model) if name in numbers}


def remembered(model: PeftModel) -> dict[str, Tensor]:
    """What `remember` has noted; {} where nothing was."""
    noted: dict[str, Tensor] = getattr(model, "made_on", {})
    return noted


def as_metadata(model: PeftModel) -> dict[str, str]:
    """What stands in the header of an adapter's file."""
    noted = remembered(model)
    if not noted:
        return {"format": "pt"}
    numbers = torch.stack([noted[name] for name in sorted(noted)])
    return {"format": "pt", _KEY: base64.b64encode(numbers.numpy().tobytes()).decode()}


def read_sample(folder: Path) -> dict[str, Tensor]:
    """What `as_metadata` has written into an adapter's file; {} where PEFT alone has written it."""
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            text = (file.metadata() or {}).get(_KEY, "")
            names = sorted(adapted_modules(file.keys()))
        content = bytearray(base64.b64decode(text, validate=True))
    except (OSError, SafetensorError, ValueError):
        return {}  # a file that cannot be read is told by what reads its weights
    if not content or len(content) != 4 * _NUMBERS * len(names):
        return {}
    numbers = torch.frombuffer(content, dtype=torch.float32).reshape(-1, _NUMBERS)
    return dict(zip(names, numbers, strict=True))


def is_other(recorded: Sample, here: Sample) -> bool:
    """Whether these are certainly not the weights that were there then.

    Both may be in types of their own: the finer one is then rounded as the coarser one was.

    Args:
        recorded: Of `read_sample`.
        here: Of the base that is there now; may have more modules.
    """
    names = [name for name in recorded if name in here]
    if not names:
        return False
    then = torch.stack([recorded[name] for name in names])
    now = torch.stack([here[name] for name in names])
    for dtype in (torch.bfloat16, torch.float16):
        if any(torch.equal(one, one.to(dtype).float()) for one in (then, now)):
            then, now = then.to(dtype).float(), now.to(dtype).float()
    near = _ROUNDING * then.square().mean(dim=1, keepdim=True).sqrt()
    differ = ((then - now).abs() > near).float().mean(dim=1)
    return bool((differ > _FEW).any())
