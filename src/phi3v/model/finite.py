"""Whether weights are numbers: a training on others would blame its examples for what they are."""

from collections.abc import Iterable

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

from phi3v.errors import UserError


def is_finite(weight: Tensor) -> bool:
    """Whether all numbers of a weight are; by the smallest and the largest, which is fastest."""
    return bool(torch.stack(torch.aminmax(weight.detach())).isfinite().all())


def check_finite(where: object, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Look at every number: a fifth of a second per GB on one core.

    Args:
        where: What the weights are of, for the message.
        weights: By name; those that are kept in four bits are left out. Of divided ones each
            process looks at its own slice, and all have to call this.

    Raises:
        UserError: On all processes, naming the first one that is not finite on any.
    """
    spoilt, divided = "", False
    for name, weight in weights:
        divided = divided or isinstance(weight, DTensor)
        own = weight.to_local() if isinstance(weight, DTensor) else weight
        if own.is_floating_point() and own.numel() and not is_finite(own):
            spoilt = spoilt or name
            if not divided:
                break
    found = [spoilt]
    if divided:
        found = [""] * distributed.get_world_size()
        distributed.all_gather_object(found, spoilt)
    if names := [name for name in found if name]:
        raise UserError(f"{where}: {min(names)} holds numbers that are not finite")
