"""Two steps of a real training move what an adapter declares, and not a bit of anything else."""

import pytest
import torch
from kinds import EVERY, NAMES, declared
from lightning.pytorch import Callback


class Gradients(Callback):
    """Notes what has a gradient before the first step is taken."""

    def __init__(self):
        self.names = set()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == 0:
            weights = pl_module.model.named_parameters()
            self.names = {name for name, weight in weights if weight.grad is not None}


@pytest.mark.parametrize(("name", "scope", "adapter"), EVERY, ids=NAMES)
def test_all_that_is_declared_gets_a_gradient_and_moves_and_nothing_else_does(
    name, scope, adapter, base, make_module, make_data, make_trainer
):
    torch.manual_seed(1)
    model, noted = adapter.attach(base), Gradients()
    wanted = declared(name, scope, model, base.config)
    before = {one: weight.detach().clone() for one, weight in model.named_parameters()}
    # B begins at zero, so that A has a gradient of zeros in the first step.
    trainer = make_trainer(epochs=1, callbacks=[noted], max_steps=2, limit_val_batches=0)
    trainer.fit(make_module(model), make_data(count=12, batch_size=4))
    assert trainer.global_step == 2
    assert noted.names == wanted
    moved = {one for one, w in model.named_parameters() if not torch.equal(w, before[one])}
    assert moved == wanted
