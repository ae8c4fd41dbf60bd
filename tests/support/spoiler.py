"""What a training has to be stopped for."""

import math

from lightning.pytorch import Callback


class Spoiler(Callback):
    """Makes the gradients of one step infinite."""

    def __init__(self, step):
        self.step = step

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step + 1 == self.step:
            for parameter in pl_module.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(math.inf)
