"""The same steps, losses and weights, however many micro-batches share a step; and mid-epoch."""

import csv
from contextlib import nullcontext

import pytest
import torch
from lightning.pytorch import Callback

from phi3v.adapter import LoraAdapter, trained_state
from phi3v.optim import Cosine
from phi3v.training import StepMetrics


class Killed(Exception):
    """What ends a training before its time."""


class SaveAndKill(Callback):
    """Saves after a step in the middle of an epoch, then ends the training."""

    def __init__(self, step, path):
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise Killed


@pytest.fixture
def run(base, make_module, make_data, make_trainer, tmp_path):
    """Trains three epochs on 17 examples in steps of up to 6; losses by step and final weights."""

    def train(name, batch_size=6, accumulate=1, dropout=0.0, workers=0, stop=None, resume=None):
        torch.manual_seed(1)
        adapter = LoraAdapter(r=4, alpha=8, dropout=dropout, scope=["decoder", "projector"])
        module = make_module(adapter.attach(base), schedule=Cosine())
        data = make_data(count=26, batch_size=batch_size)
        data.num_workers = workers
        trainer = make_trainer(
            3, filter(None, [stop]), [StepMetrics(tmp_path / name)],
            accumulate_grad_batches=accumulate, gradient_clip_val=1.0,
        )  # fmt: skip
        with nullcontext() if stop is None else pytest.raises(Killed):
            trainer.fit(module, data, ckpt_path=resume)
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["train/loss"]]
        weights = {n: t.clone() for n, t in trained_state(module.model).items()}
        module.model.unload()
        return [(row["step"], row["epoch"], row["train/loss"]) for row in rows], weights

    return train


@pytest.mark.parametrize(("batch_size", "accumulate"), [(3, 2), (2, 3), (1, 6)])
def test_micro_batches_take_the_steps_of_the_whole_batch(run, batch_size, accumulate):
    steps, weights = run("whole")
    assert [step for step, _, _ in steps] == [str(number) for number in range(1, 10)]
    shared, shared_weights = run("shared", batch_size, accumulate)
    assert [row[:2] for row in shared] == [row[:2] for row in steps]
    for (_, _, loss), (_, _, other) in zip(steps, shared, strict=True):
        assert float(other) == pytest.approx(float(loss), abs=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(shared_weights[name], tensor, atol=1e-5, rtol=0)


@pytest.mark.parametrize("step", [3, 4, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_goes_on_from_any_step_as_if_never_stopped(run, tmp_path, step, workers):
    steps, weights = run("whole", dropout=0.2)
    checkpoint = tmp_path / "some.ckpt"
    first, _ = run("first", dropout=0.2, workers=workers, stop=SaveAndKill(step, checkpoint))
    rest, rest_weights = run("rest", dropout=0.2, workers=workers, resume=checkpoint)
    assert len(first) in (step - 1, step)  # the step that was stopped may not have been logged
    assert first[: step - 1] + rest[-(9 - step) :] == steps[: step - 1] + steps[step:]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())
