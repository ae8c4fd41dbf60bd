"""The steps that a training says it will take are those that it takes."""

from types import SimpleNamespace

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from phi3v.errors import UserError
from phi3v.run.checks import check_intervals
from phi3v.run.plan import plan


class Line(lightning.LightningModule):
    """A straight line through the origin."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Linear(1, 1, bias=False)

    def training_step(self, batch, index):
        return self.slope(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Ones(lightning.LightningDataModule):
    """Ten batches of two."""

    batch_size = 2

    def train_dataloader(self):
        return DataLoader(torch.ones(20, 1), batch_size=2)


def trainer(folder, **settings):
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, **{"max_epochs": 2, **settings},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "epoch", "in_all"),
    [
        ({}, 10, 20),
        ({"limit_train_batches": 1}, 1, 2),
        ({"limit_train_batches": 30}, 10, 20),
        ({"limit_train_batches": 0.25}, 2, 4),
        ({"overfit_batches": 3}, 3, 6),
        ({"overfit_batches": 0.5}, 5, 10),
        ({"max_steps": 7}, 10, 7),
        ({"max_steps": 7, "max_epochs": -1, "limit_train_batches": 2}, 2, 7),
        ({"accumulate_grad_batches": 4}, 3, 6),
        ({"accumulate_grad_batches": 4, "limit_train_batches": 1}, 1, 2),
        ({"fast_dev_run": 2}, 2, 2),
        ({"max_epochs": 0}, 10, 0),
    ],
)
def test_the_plan_is_what_the_trainer_does(settings, epoch, in_all, tmp_path):
    trains = trainer(tmp_path, **settings)
    assert plan(trains, Ones()).endswith(f"; {epoch} an epoch, {in_all} in all")
    trains.fit(Line(), datamodule=Ones())
    assert trains.global_step == in_all


def test_a_validation_behind_the_last_batch_of_a_short_epoch_is_refused(tmp_path):
    data = SimpleNamespace(train_dataloader=lambda: range(10))
    short = {"limit_train_batches": 3}
    for fits in (
        {"val_check_interval": 10},
        {"val_check_interval": 3, **short},
        {"val_check_interval": 4, "check_val_every_n_epoch": None, **short},
        {"val_check_interval": 4, "limit_val_batches": 0, **short},
        {"val_check_interval": 1.0, **short},
        {"val_check_interval": "00:00:10:00", **short},
        {"val_check_interval": 4, "fast_dev_run": True},
    ):
        check_intervals(trainer(tmp_path, **fits), data)
    for late, batches in (
        ({"val_check_interval": 11}, 10),
        ({"val_check_interval": 4, **short}, 3),
        ({"val_check_interval": 4, "overfit_batches": 2}, 2),
        ({"val_check_interval": 4, "limit_train_batches": 0.2}, 2),
    ):
        with pytest.raises(UserError, match=rf"an epoch has {batches} batches; give at most"):
            check_intervals(trainer(tmp_path, **late), data)


@pytest.mark.parametrize(
    ("settings", "accumulate", "fits"),
    [  # ten batches an epoch
        ({"val_check_interval": 4}, 2, True),
        ({"val_check_interval": 3}, 2, False),
        ({"val_check_interval": 10}, 4, True),  # behind the epoch's last step, which is shorter
        ({"val_check_interval": 9}, 4, False),
        ({"val_check_interval": 1.0}, 4, True),
        ({"val_check_interval": 0.5}, 5, True),
        ({"val_check_interval": 0.5}, 2, False),
        ({"val_check_interval": 0.05}, 2, False),  # after each batch
        ({"val_check_interval": 0.5, "limit_train_batches": 8}, 2, True),
        ({"val_check_interval": 0.5, "limit_val_batches": 0}, 2, True),
        ({"val_check_interval": "00:00:10:00"}, 2, True),
        ({"val_check_interval": 12, "check_val_every_n_epoch": None}, 2, True),
        ({"val_check_interval": 5, "check_val_every_n_epoch": None}, 5, True),
        ({"val_check_interval": 5, "check_val_every_n_epoch": None}, 2, False),
        ({"val_check_interval": 20, "check_val_every_n_epoch": None}, 5, True),
        # The twelfth batch is the second of the second epoch, in the middle of its first step.
        ({"val_check_interval": 12, "check_val_every_n_epoch": None}, 4, False),
    ],
)
def test_a_validation_in_the_middle_of_a_step_is_refused(tmp_path, settings, accumulate, fits):
    begun = []

    class Validated(Line):
        def validation_step(self, batch, index):
            if index == 0:
                begun.append(self.trainer.fit_loop.epoch_loop._should_accumulate())

    trains = trainer(tmp_path, max_epochs=6, accumulate_grad_batches=accumulate, **settings)
    data = Ones()
    if fits:
        check_intervals(trains, data)
    else:
        with pytest.raises(
            UserError, match=f"step .+ accumulate_grad_batches={accumulate}"
        ) as told:
            check_intervals(trains, data)
        assert "\n" not in str(told.value)
    trains.fit(Validated(), data.train_dataloader(), data.train_dataloader())
    assert any(begun) != fits


def test_an_interval_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"val_check_interval=0: at least 1"):
        check_intervals(trainer(tmp_path, val_check_interval=0), Ones())
