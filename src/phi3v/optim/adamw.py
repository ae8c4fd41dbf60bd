"""AdamW over the trainable parameters, with learning rate and weight decay per part of the model.

    optimizer = AdamW(lr=2e-4, weight_decay=0.01, parts={"vision": {"lr": 2e-5}}).build(model)

One parameter group per part, split by whether weight decay applies; each group carries its name.
LoRA+ (Hayou et al., 2024) gives the matrices B of a part's adapters a group of their own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import torch
from torch import nn

from phi3v.errors import UserError
from phi3v.model.parts import PARTS, part_of

SETTINGS = ("lr", "weight_decay")
SUFFIXES = ("", "_lora_b", "_no_decay")  # of a part's groups, in the order they are in
_SEPARATORS = ("glb_GN", "sub_GN")  # learned vectors that are stored with leading dimensions


@dataclass(frozen=True)
class AdamW:
    """Settings of torch.optim.AdamW.

    Attributes:
        lr: Learning rate of every part that `parts` does not mention.
        weight_decay: Decay of matrices; biases, norms and other vectors are never decayed.
        betas: Decay rates of the two running averages.
        eps: Added to the denominator.
        parts: Part -> {"lr": ..., "weight_decay": ...}; what is left out is taken from above.
        lora_plus_ratio: The matrices B of LoRA learn with so many times their part's rate (LoRA+);
            1 is LoRA as it was.
    """

    lr: float
    weight_decay: float = 0.0
    betas: Sequence[float] = (0.9, 0.999)
    eps: float = 1e-8
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lora_plus_ratio: float = 1.0

    def __post_init__(self) -> None:
        for key in SETTINGS:  # before the parts, which may have them from here
            if getattr(self, key) < 0:
                raise UserError(f"optimizer.{key}={getattr(self, key)}: not below zero")
        for part, settings in self.parts.items():
            _check_known("optimizer.parts", part, PARTS)
            for key, value in settings.items():
                _check_known(f"optimizer.parts.{part}", key, SETTINGS)
                if value < 0:
                    raise UserError(f"optimizer.parts.{part}.{key}={value}: not below zero")
        if not 0 < self.lora_plus_ratio < math.inf:
            raise UserError(f"optimizer.lora_plus_ratio={self.lora_plus_ratio}: must be above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(
                f"optimizer.betas={list(self.betas)}: two numbers are needed, from 0 to below 1"
            )
        if self.eps < 0:
            raise UserError(f"optimizer.eps={self.eps}: not below zero")

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """Make the optimizer for what trains in the model.

        Raises:
            UserError: When nothing trains, or LoRA+ is asked for and there is no LoRA.
        """
        members: dict[tuple[str, str], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                group = part_of(name), self._suffix(name, parameter)
                members.setdefault(group, []).append(parameter)
        if not members:
            raise UserError("nothing trains in this model; choose an adapter other than none")
        if self.lora_plus_ratio != 1 and all(suffix != "_lora_b" for _, suffix in members):
            raise UserError(no_lora_to_speed_up(self.lora_plus_ratio))
        order = [(part, suffix) for part in PARTS for suffix in SUFFIXES]
        groups = [self._group(*key, members[key]) for key in order if key in members]
        return torch.optim.AdamW(groups, betas=(self.betas[0], self.betas[1]), eps=self.eps)

    def _suffix(self, name: str, parameter: nn.Parameter) -> str:
        if parameter.ndim < 2 or name.endswith(_SEPARATORS):
            return "_no_decay"
        # With a ratio of 1 there are the same groups, in checkpoints as well, as without LoRA+.
        return "_lora_b" if ".lora_B." in name and self.lora_plus_ratio != 1 else ""

    def _group(self, part: str, suffix: str, parameters: list[nn.Parameter]) -> dict[str, object]:
        settings = {"lr": self.lr, "weight_decay": self.weight_decay, **self.parts.get(part, {})}
        if suffix == "_no_decay":
            settings["weight_decay"] = 0.0
        if suffix == "_lora_b":
            settings["lr"] *= self.lora_plus_ratio
        return {"params": parameters, "name": f"{part}{suffix}", **settings}


def no_lora_to_speed_up(ratio: float) -> str:
    """The message for a LoRA+ that has no LoRA to work on."""
    return (
        f"optimizer.lora_plus_ratio={ratio}: there is no LoRA here; leave it out, or choose "
        "adapter=lora"
    )


def _check_known(where: str, name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
    raise UserError(f"{where}: there is no '{name}'; {hint}")
