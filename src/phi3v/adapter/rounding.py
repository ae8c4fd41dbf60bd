"""The matrices of a LoRA in the type of the base that they belong to.

    round_to_base(model)        # in place, after training
    save_adapter(model, folder) # half the size on a bfloat16 base

Adapters train in float32, also on a bfloat16 base: steps are smaller than its grid. What is done
with them afterwards is done in the base's type, by whatever serves them or merges them. So they
are rounded once, before the test figures are taken, and these are figures of what is kept.
"""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

MATRICES = (".lora_A.", ".lora_B.")


def round_to_base(model: nn.Module) -> None:
    """Round the matrices A and B to what the base's type can hold; their own type stays.

    A model without adapters and one in float32 are left alone; so is what multiplies whole outputs
    (DoRA's magnitudes) or trains whole.
    """
    if not isinstance(model, PeftModel):
        return
    dtype = type_of_base(model)
    for name, parameter in model.named_parameters():
        if any(matrix in name for matrix in MATRICES):
            value = parameter.detach()
            value.copy_(value.to(dtype))


def type_of_base(model: PeftModel) -> torch.dtype:
    """The type of the base's numbers; of one in four bits, that of what is not."""
    base: Any = model.get_base_model()
    dtype: torch.dtype = base.get_input_embeddings().weight.dtype
    return dtype


def without_loss(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in a type, where that holds each of its numbers; else as it is."""
    rounded = tensor.to(dtype)
    same = rounded.element_size() < tensor.element_size() and torch.equal(
        rounded.to(tensor.dtype), tensor
    )
    return rounded if same else tensor
