"""What is kept of a training, when, and what stays of it when writing fails."""

from pathlib import Path

import pytest
import torch
from left_behind import rows_of, snapshot, steps_in
from lightning.pytorch import Callback

from phi3v.adapter import FullFineTuning, LoraAdapter, load_trained_state, trained_state
from phi3v.errors import UserError
from phi3v.optim import Cosine
from phi3v.training import (
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    StepMetrics,
    read_weights,
)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_checkpoint_holds_what_trains_and_loads_without_pickles(
    base, make_module, make_data, make_trainer, folder, kind
):
    full = FullFineTuning(scope=["projector"])
    module = make_module(full.attach(base) if kind == "full" else None)
    callbacks = [BestCheckpoint(folder, "colour/accuracy"), LastCheckpoint(folder)]
    make_trainer(1, callbacks).fit(module, make_data())
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    state = trained_state(module.model)
    assert set(checkpoint["state_dict"]) == {f"model.{name}" for name in state}
    assert "hyper_parameters" not in checkpoint
    # Weights, and two averages of each for the optimizer; the rest is a few small numbers.
    trained_bytes = sum(tensor.nbytes for tensor in state.values())
    size = (folder / "last.ckpt").stat().st_size
    assert 3 * trained_bytes < size < 3 * trained_bytes + 2000 * len(state)


class Killed(Exception):
    """What ends a training before its time."""


class KillAfter(Callback):
    """Ends a training when it is about to begin an epoch."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epochs:
            raise Killed


def test_a_training_resumed_at_the_end_of_an_epoch_goes_on_as_if_never_stopped(
    make_module, make_data, make_trainer, folder, tmp_path
):
    def run(name, callbacks=(), resume=None):
        torch.manual_seed(9)
        module = make_module(schedule=Cosine())
        callbacks = [LastCheckpoint(folder / name), *callbacks]
        trainer = make_trainer(4, callbacks, [StepMetrics(tmp_path / name)])
        try:
            trainer.fit(module, make_data(), ckpt_path=resume)
        except Killed:
            assert trainer.current_epoch == 2
        losses = [row["train/loss"] for row in rows_of(tmp_path / name) if row["train/loss"]]
        weights = snapshot(module)
        module.model.unload()
        return losses, weights

    losses, weights = run("whole")
    first, _ = run("killed", [KillAfter(2)])
    rest, resumed = run("resumed", resume=folder / "killed" / "last.ckpt")
    assert len(first) == len(rest) == 6
    assert first + rest == losses
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_the_last_epoch_is_kept_also_when_nothing_is_validated(
    make_module, make_data, make_trainer, folder
):
    trainer = make_trainer(2, [LastCheckpoint(folder)], limit_val_batches=0)
    trainer.fit(make_module(), make_data())
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == trainer.global_step == 6


def test_a_checkpoint_of_another_adapter_is_refused(
    base, make_module, make_data, make_trainer, folder
):
    module = make_module()
    make_trainer(1, [LastCheckpoint(folder)]).fit(module, make_data())
    module.model.unload()
    other = LoraAdapter(r=2, alpha=4, scope=["vision"]).attach(base)
    with pytest.raises(UserError, match="the checkpoint's weights do not fit this model"):
        make_trainer(2).fit(make_module(other), make_data(), ckpt_path=folder / "last.ckpt")


def test_weights_read_from_a_checkpoint_restore_the_model(
    base, make_module, make_data, make_trainer, folder
):
    module = make_module()
    make_trainer(1, [LastCheckpoint(folder)]).fit(module, make_data())
    trained = snapshot(module)
    module.model.unload()
    again = make_module()
    assert any(not torch.equal(tensor, trained[n]) for n, tensor in snapshot(again).items())
    load_trained_state(again.model, read_weights(folder / "last.ckpt"))
    assert all(torch.equal(tensor, trained[n]) for n, tensor in snapshot(again).items())


def test_a_missing_or_torn_checkpoint_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none\.ckpt: there is no such checkpoint"):
        read_weights(tmp_path / "none.ckpt")
    torn = tmp_path / "torn.ckpt"
    torn.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match=r"torn\.ckpt: not a readable checkpoint") as error:
        read_weights(torn)
    assert "\n" not in str(error.value)


def test_the_best_checkpoint_is_chosen_on_what_the_model_writes(
    make_module, make_data, make_trainer, folder, monkeypatch
):
    # Answers are best after the second of four epochs, while the teacher-forced loss only falls.
    module, validations = make_module(), []

    def answers(model, processor, batch, length):
        right = len(validations) == 2
        return [f"{t['colour'] if right else 'grey'}, {t['number']}" for t in batch["truths"]]

    class Note(Callback):
        def on_validation_start(self, trainer, pl_module):
            validations.append(snapshot(module))

        def on_validation_end(self, trainer, pl_module):
            losses.append(trainer.callback_metrics["val/loss"].item())

    losses = []
    monkeypatch.setattr("phi3v.training.module.generate_answers", answers)
    best = BestCheckpoint(folder, "colour/accuracy")
    make_trainer(4, [best, Note()]).fit(module, make_data())
    assert losses[-1] < losses[1]
    assert best.best_model_score == 1.0
    weights = read_weights(folder / "best.ckpt")
    assert all(torch.equal(weights[name], validations[1][name]) for name in weights)


@pytest.mark.parametrize("keep", [1, 2])
def test_the_best_checkpoint_knows_what_its_own_validation_measured(
    make_module, make_data, make_trainer, folder, tmp_path, monkeypatch, keep
):
    # Answers are better after the second and third of four epochs than after the others.
    now = {}

    def answers(model, processor, batch, length):
        right = {1: 1, 2: 3}.get(now["trainer"].current_epoch, 0)
        truths = batch["truths"]
        return [f"{t['colour'] if i < right else 'grey'}, 1" for i, t in enumerate(truths)]

    def train(name, resume=None):
        torch.manual_seed(9)
        best = BestCheckpoint(folder / name, "colour/accuracy", keep=keep)
        module, now["trainer"] = make_module(), make_trainer(4, [best])
        now["trainer"].fit(module, make_data(), ckpt_path=resume)
        module.model.unload()
        return best

    monkeypatch.setattr("phi3v.training.module.generate_answers", answers)
    whole = train("whole")
    assert whole.best_values["val/colour/accuracy"] == 1.0
    kept = Path(whole.best_model_path)
    (folder / "rest").mkdir()
    left = kept.rename(folder / "rest" / kept.name)  # killed as soon as it had been written
    rest = train("rest", left)
    assert rest.best_values == whole.best_values


@pytest.mark.parametrize(
    ("objective", "mode"),
    [("full_price/mape", "min"), ("colour/accuracy", "max"), ("parse_rate", "max")],
)
def test_the_direction_of_the_best_checkpoint_follows_the_metric(folder, objective, mode):
    best = BestCheckpoint(folder, objective)
    assert (best.monitor, best.mode) == (f"val/{objective}", mode)


@pytest.mark.parametrize(("steps", "saved"), [(0, [2, 3, 5, 6]), (4, [2, 3, 4, 5, 6])])
def test_it_is_saved_at_the_end_of_an_epoch_and_before_validations(
    make_module, make_data, make_trainer, tmp_path, monkeypatch, steps, saved
):
    seen, save = [], LastCheckpoint._save_checkpoint
    monkeypatch.setattr(
        LastCheckpoint, "_save_checkpoint",
        lambda self, trainer, path: (seen.append(trainer.global_step), save(self, trainer, path)),
    )  # fmt: skip
    trainer = make_trainer(2, [LastCheckpoint(tmp_path, steps=steps)])
    trainer.fit(make_module(), make_data())  # three steps an epoch, a validation behind the third
    assert seen == saved
    assert steps_in(tmp_path) == {"last.ckpt": 6, "previous.ckpt": 5}


def test_without_hard_links_they_are_copied(
    make_module, make_data, make_trainer, tmp_path, monkeypatch
):
    def refuse(self, target):
        raise OSError("not here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    make_trainer(2, [LastCheckpoint(tmp_path)]).fit(make_module(), make_data())
    assert steps_in(tmp_path) == {"last.ckpt": 6, "previous.ckpt": 5}


def test_so_many_of_the_best_are_kept(make_module, make_data, make_trainer, tmp_path):
    best = BestCheckpoint(tmp_path, "number/mape", keep=2)
    make_trainer(4, [best]).fit(make_module(), make_data())
    assert len(steps_in(tmp_path)) == 2
    assert set(steps_in(tmp_path)) == {f"best-step={step}.ckpt" for step in
                                       steps_in(tmp_path).values()}  # fmt: skip
    scores = {Path(path).name: float(score) for path, score in best.best_k_models.items()}
    assert Path(best.best_model_path).name == min(scores, key=scores.__getitem__)
    with pytest.raises(UserError, match=r"callbacks\.best\.keep=0: at least 1"):
        BestCheckpoint(tmp_path, "number/mape", keep=0)


def test_a_best_checkpoint_that_was_moved_is_still_the_best(
    make_module, make_data, make_trainer, tmp_path
):
    first = [BestCheckpoint(tmp_path / "old", "number/mape"), LastCheckpoint(tmp_path / "old")]
    module, data = make_module(), make_data()
    make_trainer(2, first).fit(module, data)
    (tmp_path / "old").rename(tmp_path / "new")
    best = BestCheckpoint(tmp_path / "new", "number/mape")
    make_trainer(2, [best]).fit(module, data, ckpt_path=tmp_path / "new" / "last.ckpt")
    assert best.best_model_score == first[0].best_model_score
    assert best.best_model_path == str(tmp_path / "new" / "best.ckpt")


@pytest.mark.parametrize("settings", [{"minutes": -1}, {"steps": -1}])
def test_negative_intervals_are_refused(tmp_path, settings):
    with pytest.raises(UserError, match=r"callbacks\.last\..*=-1: at least 0"):
        LastCheckpoint(tmp_path, **settings)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("file")])
def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch, error):
    path, writer = tmp_path / "some" / "last.ckpt", AtomicCheckpointIO()
    writer.save_checkpoint({"step": 1}, path)

    def fail(checkpoint, file):
        file.write(b"a part of it")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(
        UserError, match=r"cannot be written, [\d,.]+ MiB .+ \(.+\); the earlier one"
    ):
        writer.save_checkpoint({"step": 2}, path)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.load(path) == {"step": 1}
