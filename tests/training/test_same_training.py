"""The same steps, losses and weights, however many micro-batches share a step; and mid-epoch."""

import signal

import pytest
import torch
from left_behind import rows_of, steps_in
from lightning.pytorch import Callback
from spoiler import Spoiler

from phi3v.errors import UserError
from phi3v.training import LastCheckpoint
from phi3v.training.non_finite import NonFiniteStep

from .conftest import Killed, Signal


class SaveAndKill(Callback):
    """Saves after a step in the middle of an epoch, then ends the training."""

    def __init__(self, step, path):
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise Killed


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


@pytest.mark.parametrize("step", [2, 3, 4])
def test_with_other_portions_it_goes_on_from_any_step_too(run, tmp_path, step):
    checkpoint = tmp_path / "some.ckpt"
    run("first", stop=SaveAndKill(step, checkpoint))
    steps, weights = run("whole")
    rest, rest_weights = run("rest", 3, 2, resume=checkpoint)
    assert [row[:2] for row in rest] == [row[:2] for row in steps[step:]]
    for name, tensor in weights.items():
        torch.testing.assert_close(rest_weights[name], tensor, atol=1e-5, rtol=0)


def test_whole_numbers_of_batches_that_would_be_other_steps_are_refused(run, tmp_path):
    checkpoint = tmp_path / "some.ckpt"
    run("first", limit_train_batches=2, stop=SaveAndKill(2, checkpoint))
    steps, weights = run("whole", limit_train_batches=2)
    rest, rest_weights = run("rest", 3, 2, limit_train_batches=4, resume=checkpoint)
    assert [row[:2] for row in rest] == [row[:2] for row in steps[2:]]
    for name, tensor in weights.items():
        torch.testing.assert_close(rest_weights[name], tensor, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="with 2 steps an epoch"):
        run("other", 3, 2, limit_train_batches=2, resume=checkpoint)


class LeftOut(Callback):
    """Says that steps were left out, or how many the training knows of."""

    def __init__(self, number=None):
        self.number = number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.number is None:
            self.number = pl_module.non_finite.skipped
        pl_module.non_finite.skipped = self.number


def test_steps_that_were_left_out_stay_counted(run, tmp_path):
    checkpoint = tmp_path / "some.ckpt"
    run("first", stop=SaveAndKill(2, checkpoint), keep=LeftOut(3))
    seen = LeftOut()
    run("rest", resume=checkpoint, keep=seen)
    assert seen.number == 3


@pytest.mark.parametrize(("batch_size", "accumulate"), [(6, 1), (3, 2)])
@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_a_training_stopped_before_a_step_goes_on_with_that_step(
    run, tmp_path, step, batch_size, accumulate
):
    division = {"batch_size": batch_size, "accumulate": accumulate, "dropout": 0.2}
    steps, weights = run("whole", **division)
    first, _ = run(
        "first", **division, stop=Spoiler(step), keep=LastCheckpoint(tmp_path), ends=NonFiniteStep
    )
    assert first == steps[: step - 1]
    rest, rest_weights = run("rest", **division, resume=tmp_path / "last.ckpt")
    assert rest == steps[step - 1 :]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_training_that_is_killed_goes_on_from_what_was_saved_last(run, tmp_path, step):
    steps, weights = run("whole", dropout=0.2)

    class Kill(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if trainer.global_step == step:
                raise Killed

    run("first", dropout=0.2, stop=Kill(), keep=LastCheckpoint(tmp_path, minutes=0))
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] == step
    rest, rest_weights = run("rest", dropout=0.2, resume=tmp_path / "last.ckpt")
    assert rest[-(9 - step) :] == steps[step:]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


def test_nothing_is_saved_between_a_step_and_its_validation(run, tmp_path):
    class Kill(Callback):
        def on_validation_start(self, trainer, pl_module):
            raise Killed

    run("first", stop=Kill(), keep=LastCheckpoint(tmp_path, minutes=0))
    # Lightning would go on behind the validation of the third step.
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_validation_within_the_epoch_is_not_lost(run, tmp_path):
    """Each step has one behind it; told to end in a step, the training does not wait for its."""
    settings = {"val_check_interval": 1, "dropout": 0.2}
    run("first", **settings, stop=Signal(2, signal.SIGTERM), keep=LastCheckpoint(tmp_path, 0),
        ends=SystemExit)  # fmt: skip
    steps, weights = run("whole", **settings)
    rest, rest_weights = run("rest", **settings, resume=tmp_path / "last.ckpt")
    assert rest == steps[1:]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


def validated(folder):
    rows = rows_of(folder)
    return [(int(row["step"]), row["val/loss"]) for row in rows if row["val/loss"]]


# Three steps an epoch: the fourth is the first of the second one, the sixth its last.
@pytest.mark.parametrize(("batch_size", "accumulate"), [(6, 1), (3, 2)])
@pytest.mark.parametrize("step", [2, 4, 6, 8])
def test_a_validation_that_is_counted_over_the_epochs_is_not_lost(
    run, tmp_path, step, batch_size, accumulate
):
    class Kill(Callback):
        def on_validation_start(self, trainer, pl_module):
            if trainer.global_step == step:
                raise Killed

    settings = {
        "batch_size": batch_size, "accumulate": accumulate, "dropout": 0.2,
        "val_check_interval": 2 * accumulate, "check_val_every_n_epoch": None,
    }  # fmt: skip
    steps, weights = run("whole", **settings)
    run("first", **settings, stop=Kill(), keep=LastCheckpoint(tmp_path, minutes=0))
    assert steps_in(tmp_path)["last.ckpt"] == step - 1
    rest, rest_weights = run("rest", **settings, resume=tmp_path / "last.ckpt")
    assert rest == steps[step - 1 :]
    validations = validated(tmp_path / "whole")
    assert [number for number, _ in validations] == [2, 4, 6, 8]
    assert validated(tmp_path / "rest") == validations[step // 2 - 1 :]
    assert all(torch.equal(rest_weights[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_training_goes_on_with_other_micro_batches(run, tmp_path, step, before, now):
    steps, weights = run("whole")
    stop = {"stop": Signal(step, signal.SIGTERM), "keep": LastCheckpoint(tmp_path)}
    run("first", 6 // before, before, ends=SystemExit, **stop)
    rest, rest_weights = run("rest", 6 // now, now, resume=tmp_path / "last.ckpt")
    saved = step - (step == 3)
    assert [row[:2] for row in rest] == [row[:2] for row in steps[saved:]]
    for (_, _, loss), (_, _, other) in zip(steps[saved:], rest, strict=True):
        assert float(other) == pytest.approx(float(loss), abs=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(rest_weights[name], tensor, atol=1e-5, rtol=0)


def test_with_dropout_a_checkpoint_of_another_division_is_refused(run, tmp_path):
    run("first", dropout=0.1, keep=LastCheckpoint(tmp_path))
    with pytest.raises(UserError, match=r"1 micro-batch\(es\) a step, this one has 1 and 2"):
        run("other", 3, 2, dropout=0.1, resume=tmp_path / "last.ckpt")
