"""Stops a training before its first step when its ranks are not the same training.

Launchers and sweepers can leave ranks with other hyperparameters, or a process group of another
size than Lightning believes: the training then runs to its end and is silently wrong.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed

from phi3v.adapter import trained_state
from phi3v.errors import UserError
from phi3v.training.module import FineTuning


class RankGuard(Callback):
    """Compares all ranks before the first step; every one of them gets the same error.

    Args:
        settings: Key -> value of everything that decides the training, by dotted key.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = {key: repr(value) for key, value in settings.items()}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare group, settings and weights.

        Raises:
            UserError: Naming what differs, on which ranks.
        """
        size = distributed.get_world_size() if distributed.is_initialized() else 1
        if size != trainer.world_size:
            raise UserError(
                f"torch has a group of {size} processes, the trainer one of {trainer.world_size}: "
                "a process group of an earlier training is left; start each one in a fresh process"
            )
        if size == 1:
            return
        assert isinstance(pl_module, FineTuning)
        own = {**self.settings, "the trained weights": _digest(pl_module)}
        everywhere: list[dict[str, str]] = [{} for _ in range(size)]
        distributed.all_gather_object(everywhere, own)
        if message := difference(everywhere):
            raise UserError(message)


def difference(everywhere: list[dict[str, str]]) -> str | None:
    """What differs between the ranks, in one line; None where nothing does.

    Args:
        everywhere: Each rank's settings by key.
    """
    keys = dict.fromkeys(key for settings in everywhere for key in settings)
    for key in keys:
        values = [settings.get(key, "nothing") for settings in everywhere]
        if other := next((rank for rank, value in enumerate(values) if value != values[0]), None):
            return (
                f"the ranks are not the same training: {key} is {values[0]} on rank 0 and "
                f"{values[other]} on rank {other}"
            )
    return None


def _digest(module: FineTuning) -> str:
    content = hashlib.sha256()
    for name, tensor in trained_state(module.model).items():
        content.update(name.encode())
        content.update(tensor.contiguous().cpu().view(torch.uint8).numpy().data)
    return content.hexdigest()[:12]
