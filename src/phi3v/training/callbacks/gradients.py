"""Stops a training in its first step when something that should train gets no gradient.

A part that is cut off (detached, run without gradient, not called) leaves its weights as they
were while the loss still falls; nobody notices until the result is poor.
"""

from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed
from torch.optim import Optimizer

from phi3v.errors import UserError
from phi3v.model.divided import whole
from phi3v.model.parts import part_of
from phi3v.training.module import FineTuning

SHOWN = 5
T = TypeVar("T")


class GradientCheck(Callback):
    """Checks, after the first backward pass, that every trainable tensor has a gradient.

    A tensor's gradient of zeros passes, as long as its part has another one: LoRA's A matrices have
    one in the first step, because B starts at zero, and so do embeddings of tokens that were not in
    the batch. Projector and vision are looked at as soon as there was a picture, on whichever rank:
    all of them look at the same time and get the same error.
    """

    def __init__(self) -> None:
        self._done = False
        self._saw_picture = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note whether the gradient that is being gathered has seen a picture."""
        self._saw_picture = self._saw_picture or batch.get("pixel_values") is not None

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Check once, before the step is taken.

        Raises:
            UserError: Naming the tensors without gradient.
        """
        if self._done:
            return
        assert isinstance(pl_module, FineTuning)
        self._saw_picture = any(_everywhere(self._saw_picture))
        if silent := self._without_gradient(pl_module):
            raise UserError(_message(silent))
        if flat := self._parts_without_effect(pl_module):
            raise UserError(
                f"every gradient of the {' and the '.join(flat)} is zero in the first step: "
                "something multiplies what it computes by zero, so nothing there would be learned"
            )
        self._done = self._saw_picture

    def _without_gradient(self, module: FineTuning) -> list[str]:
        """Trainable tensors that have no gradient, on any rank."""
        own = [
            name
            for name, parameter in module.model.named_parameters()
            if parameter.requires_grad and parameter.grad is None
            if self._saw_picture or part_of(name) == "decoder"
        ]
        return list(dict.fromkeys(name for names in _everywhere(own) for name in names))

    def _parts_without_effect(self, module: FineTuning) -> list[str]:
        """Parts of which not one trainable tensor has a gradient other than zero."""
        moved: dict[str, bool] = {}
        for name, parameter in module.model.named_parameters():
            if parameter.requires_grad and parameter.grad is not None:
                part = part_of(name)
                moved[part] = bool(whole(parameter.grad).any()) or moved.get(part, False)
        looked_at = [part for part in moved if self._saw_picture or part == "decoder"]
        return [part for part in looked_at if not moved[part]]


def _everywhere(own: T) -> list[T]:
    """What each rank has found, on all of them."""
    if not distributed.is_initialized() or (size := distributed.get_world_size()) == 1:
        return [own]
    found = [own] * size
    distributed.all_gather_object(found, own)
    return found


def _message(silent: list[str]) -> str:
    parts = ", ".join(sorted({part_of(name) for name in silent}))
    names = ", ".join(silent[:SHOWN])
    more = f" and {len(silent) - SHOWN} more" if len(silent) > SHOWN else ""
    return (
        f"{len(silent)} trainable tensors of the {parts} got no gradient in the first step: "
        f"{names}{more}; nothing that they compute reaches the loss, so take them out of the "
        "adapter's scope or find what cuts them off"
    )
