"""Adapters for engines that serve many of them over one base.

    reasons = reasons_against("run/adapter")     # empty: the engines take it

What such engines read, by the LoRA documentation of vLLM and its PEFT helper: plain LoRA and rsLoRA
on the linear layers of the decoder. They know no DoRA, no trained biases, no modules that are saved
whole and no start that was taken out of the base, and of a model with pictures they adapt the
language side only. None is known here that does so over Phi-3-Vision: see docs/adapters.md.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from phi3v.adapter.reading import CONFIG, WEIGHTS, read_adapter_config, weight_names
from phi3v.model.parts import part_of

_SERVED = re.compile(
    r"base_model\.model\.model\.layers\.\d+"
    r"\.(self_attn\.(qkv_proj|o_proj)|mlp\.(gate_up_proj|down_proj))\.lora_[AB]\.weight"
)


def reasons_against(folder: Path) -> list[str]:
    """Why engines would refuse an adapter or serve something else; nothing where they serve it.

    Only names are read, no weights.

    Raises:
        UserError: When the folder holds no adapter that can be read.
    """
    config = read_adapter_config(folder)
    names = weight_names(folder)
    reasons = []
    parts = Counter(part_of(name) for name in names if ".lora_A." in name)
    parts.pop("decoder", None)
    if parts:
        touched = " and ".join(f"the {part} ({count} modules)" for part, count in parts.items())
        reasons.append(f"it adapts {touched}, and those engines take adapters of the decoder only")
    if config.get("use_dora"):
        reasons.append("it is DoRA, and those engines compute plain LoRA")
    if config.get("bias") != "none":
        reasons.append("it trained biases, which those engines leave out")
    if config.get("modules_to_save"):
        reasons.append("it holds whole modules, which those engines do not take")
    others = [n for n in names if not _SERVED.fullmatch(n) and part_of(n) == "decoder"]
    if others and not reasons:
        reasons.append(f"it adapts {others[0]}, which is no layer that those engines adapt")
    return reasons


def write_servable(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write an adapter as a PEFT folder, its configuration with what engines look at."""
    save_file(dict(tensors), folder / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(dict(config), indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
