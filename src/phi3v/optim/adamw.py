"""AdamW over the trainable parameters, with learning rate and weight decay per part of the model.

    optimizer = AdamW(lr=2e-4, weight_decay=0.01, parts={"vision": {"lr": 2e-5}}).build(model)

One parameter group per part, split by whether weight decay applies; each group carries its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import torch
from torch import nn

from phi3v.errors import UserError
from phi3v.model.parts import PARTS, part_of

SETTINGS = ("lr", "weight_decay")
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
    """

    lr: float
    weight_decay: float = 0.0
    betas: Sequence[float] = (0.9, 0.999)
    eps: float = 1e-8
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, settings in self.parts.items():
            _check_known("optimizer.parts", part, PARTS)
            for key in settings:
                _check_known(f"optimizer.parts.{part}", key, SETTINGS)
        for key in SETTINGS:
            if getattr(self, key) < 0:
                raise UserError(f"optimizer.{key}={getattr(self, key)}: not below zero")
        if len(self.betas) != 2:
            raise UserError(f"optimizer betas={list(self.betas)}: two numbers are needed")

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """Make the optimizer for what trains in the model.

        Raises:
            UserError: When nothing trains.
        """
        members: dict[str, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                members.setdefault(_group_name(name, parameter), []).append(parameter)
        if not members:
            raise UserError("nothing trains in this model; choose an adapter other than none")
        order = [f"{part}{suffix}" for part in PARTS for suffix in ("", "_no_decay")]
        groups = [self._group(name, members[name]) for name in order if name in members]
        return torch.optim.AdamW(groups, betas=(self.betas[0], self.betas[1]), eps=self.eps)

    def _group(self, name: str, parameters: list[nn.Parameter]) -> dict[str, object]:
        part = name.removesuffix("_no_decay")
        settings = {"lr": self.lr, "weight_decay": self.weight_decay, **self.parts.get(part, {})}
        if name != part:
            settings["weight_decay"] = 0.0
        return {"params": parameters, "name": name, **settings}


def _group_name(name: str, parameter: nn.Parameter) -> str:
    decays = parameter.ndim >= 2 and not name.endswith(_SEPARATORS)
    return part_of(name) if decays else f"{part_of(name)}_no_decay"


def _check_known(where: str, name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
    raise UserError(f"{where}: there is no '{name}'; {hint}")
