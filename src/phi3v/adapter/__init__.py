"""What trains: LoRA and its kin by part of the model, whole parts, or nothing.

model = LoraAdapter(r=16, alpha=32).attach(loaded.model)
state = trained_state(model)                # for a checkpoint: what trains and nothing else
save_adapter(model, "run/adapter")          # for others: a standard PEFT folder
"""

from typing import Protocol

from torch import nn

from phi3v.model.quantization import import_bitsandbytes

import_bitsandbytes()  # before PEFT does; who needs a class of PEFT gets it from here for that

from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from phi3v.adapter.counting import PartCount, trainable_parts
from phi3v.adapter.folder import add_adapter, load_adapter, save_adapter
from phi3v.adapter.lora import LoraAdapter
from phi3v.adapter.merging import merge_into
from phi3v.adapter.rounding import round_to_base
from phi3v.adapter.state import load_trained_state, trained_state
from phi3v.adapter.whole import FullFineTuning, NoAdapter
from phi3v.model import Phi3VForCausalLM


class Adapter(Protocol):
    """What the kinds of adapter have in common."""

    @property
    def kind(self) -> str:
        """One of "lora", "full", "none"."""

    @property
    def reads_weights(self) -> bool:
        """Whether `attach` needs the base's numbers, and not only its shapes."""

    def attach(self, model: Phi3VForCausalLM) -> nn.Module:
        """Make the model train what this adapter says and nothing else; in place."""


__all__ = [
    "Adapter",
    "BaseTunerLayer",
    "FullFineTuning",
    "LoraAdapter",
    "NoAdapter",
    "PartCount",
    "PeftConfig",
    "PeftModel",
    "add_adapter",
    "load_adapter",
    "load_trained_state",
    "merge_into",
    "round_to_base",
    "save_adapter",
    "trainable_parts",
    "trained_state",
]
