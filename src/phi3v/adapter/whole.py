"""Training whole parts of the model without an adapter, and training nothing.

model = FullFineTuning(scope=["decoder", "projector"]).attach(model)
model = NoAdapter().attach(model)  # to score a bare base
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from phi3v.adapter.scope import check_scope
from phi3v.errors import UserError
from phi3v.model import Phi3VForCausalLM
from phi3v.model.parts import has_no_gradient, part_of


@dataclass(frozen=True)
class FullFineTuning:
    """Every weight of the parts in scope trains.

    The model has to be in float32 for this: steps of 1e-5 vanish in bfloat16 weights. CLIP's last
    layer and final norm stay frozen, since nothing reads what they compute.

    Attributes:
        scope: Parts that train: any of decoder, projector, vision.
    """

    scope: Sequence[str] = ("decoder",)
    kind: ClassVar[str] = "full"
    reads_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scope(self.scope)

    def attach(self, model: Phi3VForCausalLM) -> Phi3VForCausalLM:
        """Mark what trains, in place, and freeze everything else.

        Raises:
            UserError: When weights that would train are quantised or not in float32.
        """
        parts = check_scope(self.scope)
        for name, parameter in model.named_parameters():
            trains = part_of(name) in parts and not has_no_gradient(name, model.config)
            if trains and not parameter.is_floating_point():
                raise UserError(
                    f"adapter=full: {name} is kept in four bits, which cannot be trained; leave"
                    " model.quantization out"
                )
            if trains and parameter.dtype != torch.float32:
                raise UserError(
                    f"adapter=full: {name} is {str(parameter.dtype).removeprefix('torch.')}, in"
                    " which small steps vanish; give model.dtype=float32"
                )
            parameter.requires_grad_(trains)
        return model


@dataclass(frozen=True)
class NoAdapter:
    """Nothing trains: the base as it is."""

    kind: ClassVar[str] = "none"
    reads_weights: ClassVar[bool] = False

    def attach(self, model: Phi3VForCausalLM) -> Phi3VForCausalLM:
        """Freeze the whole model, in place."""
        model.requires_grad_(False)
        return model
