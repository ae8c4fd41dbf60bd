"""A training as a whole: what it logs, what its steps are, what it says no to."""

import math
from itertools import pairwise

import pytest
import torch
from left_behind import rows_of, snapshot
from lightning.pytorch import Callback
from spoiler import Spoiler

from phi3v.adapter import LoraAdapter, trained_state
from phi3v.errors import UserError
from phi3v.optim import Cosine
from phi3v.training import LastCheckpoint, StepMetrics, read_weights
from phi3v.training.loss import supervised_loss
from phi3v.training.non_finite import NonFiniteStep, NonFiniteSteps


def test_a_training_logs_steps_and_validations(make_module, make_data, make_trainer, tmp_path):
    trainer = make_trainer(epochs=2, logger=[StepMetrics(tmp_path)])
    trainer.fit(make_module(), make_data(count=18, batch_size=4))
    rows = rows_of(tmp_path)
    steps = [row for row in rows if row["train/loss"]]
    assert len(steps) == 6  # 12 examples in batches of 4, twice
    assert [row["step"] for row in steps] == ["1", "2", "3", "4", "5", "6"]
    assert [row["epoch"] for row in steps] == ["0"] * 3 + ["1"] * 3
    assert float(steps[-1]["train/loss"]) < float(steps[0]["train/loss"])
    for row in steps:
        assert float(row["train/grad_norm"]) > 0
        assert float(row["lr/decoder"]) == float(row["lr/projector"]) == pytest.approx(5e-3)
        assert row["train/examples"] == "4"
        assert int(row["train/tokens"]) > 4 * 20
    found = [row for row in rows if row["val/loss"]]
    assert [row["step"] for row in found] == ["3", "6"]
    for name in ("val/parse_rate", "val/colour/accuracy", "val/colour/macro_f1", "val/number/mape"):
        assert all(row[name] for row in found), name


def test_the_logged_gradient_norm_is_the_one_before_clipping(
    make_module, make_data, make_trainer, tmp_path
):
    trainer = make_trainer(1, logger=[StepMetrics(tmp_path)], gradient_clip_val=1e-3)
    trainer.fit(make_module(), make_data())
    assert float(rows_of(tmp_path)[0]["train/grad_norm"]) > 1e-2


def test_an_infinite_gradient_stops_the_training_before_the_weights_are_spoilt(
    make_module, make_data, make_trainer, folder
):
    module = make_module()
    trainer = make_trainer(2, callbacks=[Spoiler(step=2), LastCheckpoint(folder)])
    with pytest.raises(NonFiniteStep, match=r"step 2: the gradient's norm is inf, on the examples"):
        trainer.fit(module, make_data())
    assert trainer.global_step == 1
    kept = read_weights(folder / "last.ckpt")
    for name, tensor in trained_state(module.model).items():
        assert torch.equal(kept[name], tensor)
        assert tensor.isfinite().all()


def test_a_step_that_is_not_finite_can_be_left_out(
    make_module, make_data, make_trainer, tmp_path, caplog
):
    module = make_module(max_skipped_steps=1)
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            seen.append(snapshot(pl_module))

    trainer = make_trainer(2, callbacks=[Spoiler(step=3), Watch()])
    trainer.fit(module, make_data())
    assert trainer.global_step == 6
    changed = [any(not torch.equal(a[n], b[n]) for n in a) for a, b in pairwise(seen)]
    assert changed == [True, False, True, True, True]
    assert "left out (1 of max_skipped_steps=1)" in caplog.text


def test_only_so_many_steps_are_left_out():
    policy = NonFiniteSteps(skips=1)
    assert policy.allows(1, 0.5, 1.0, ["a"])
    assert not policy.allows(2, math.nan, 1.0, ["a", "b"])
    with pytest.raises(NonFiniteStep, match=r"step 3: .* on the examples c, d, after 1"):
        policy.allows(3, math.inf, math.nan, ["c", "d", "c"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradient_is_that_of_the_mean_over_the_steps_tokens(
    make_module, make_data, make_trainer, tmp_path, accumulate
):
    module, whole = make_module(), make_data(count=18, batch_size=4)
    whole.setup()
    total, count = supervised_loss(module.model, next(iter(whole.train_dataloader())))
    (total / count).backward()
    gradients = [p.grad for p in module.model.parameters() if p.grad is not None]
    wanted = float(torch.nn.utils.get_total_norm(gradients))
    module.zero_grad()
    trainer = make_trainer(
        1, logger=[StepMetrics(tmp_path)], max_steps=1, accumulate_grad_batches=accumulate
    )
    trainer.fit(module, make_data(count=18, batch_size=4 // accumulate))
    first = rows_of(tmp_path)[0]
    assert float(first["train/grad_norm"]) == pytest.approx(wanted, rel=1e-4)
    assert float(first["train/loss"]) == pytest.approx(float(total.detach()) / count, rel=1e-5)


def test_validation_loss_is_the_mean_over_all_tokens(make_module, make_data, make_trainer):
    data = make_data(count=30, batch_size=2)
    data.setup()
    module = make_module()
    found = make_trainer().validate(module, data, verbose=False)[0]
    with torch.no_grad():
        parts = [supervised_loss(module.model, batch) for batch in data.val_dataloader()]
    assert len(parts) > 1
    wanted = sum(float(total) for total, _ in parts) / sum(count for _, count in parts)
    assert found["val/loss"] == pytest.approx(wanted, rel=1e-6)


def test_dropout_is_active_in_training_although_models_load_in_evaluation_mode(base, make_module):
    model = LoraAdapter(r=2, alpha=4, dropout=0.5).attach(base)
    module = make_module(model.eval())
    dropouts = [m for m in module.modules() if isinstance(m, torch.nn.Dropout) and m.p == 0.5]
    assert dropouts
    assert all(m.training for m in dropouts)


def test_validation_metrics_come_from_what_the_model_writes(
    make_module, make_data, make_trainer, monkeypatch
):
    def all_right(model, processor, batch, length):
        return [f"{t['colour']}, {t['number']}" for t in batch["truths"]]

    data, module = make_data(), make_module()
    before = make_trainer().validate(module, data, verbose=False)[0]
    monkeypatch.setattr("phi3v.training.module.generate_answers", all_right)
    after = make_trainer().validate(module, data, verbose=False)[0]
    assert before["val/parse_rate"] == 0.0
    assert after["val/parse_rate"] == after["val/colour/accuracy"] == 1.0
    assert after["val/number/mape"] == 0.0
    assert after["val/loss"] == before["val/loss"]


def test_predictions_of_the_last_validation_are_kept(make_module, make_data, make_trainer):
    data, module = make_data(), make_module()
    for _ in range(2):
        make_trainer().validate(module, data, verbose=False)
    wanted = {example.id: example.values for example in data.examples["val"]}
    assert {p.id for p in module.predictions} == set(wanted)
    assert len(module.predictions) == len(wanted)
    for prediction in module.predictions:
        value = wanted[prediction.id]
        assert prediction.truth == f"{value['colour']}, {value['number']:.0f}"


def test_the_sanity_check_leaves_no_trace(make_module, make_data, make_trainer, tmp_path):
    for steps in (0, 2):
        torch.manual_seed(4)
        logger = StepMetrics(tmp_path / str(steps))
        module = make_module()
        trainer = make_trainer(1, logger=[logger], num_sanity_val_steps=steps)
        trainer.fit(module, make_data())
        module.model.unload()
    assert rows_of(tmp_path / "0") == rows_of(tmp_path / "2")


def test_the_schedule_spans_all_optimizer_steps(make_module, make_data, make_trainer, tmp_path):
    module = make_module(schedule=Cosine(min_ratio=0.0))
    logger = StepMetrics(tmp_path)
    trainer = make_trainer(epochs=2, logger=[logger], accumulate_grad_batches=3)
    trainer.fit(module, make_data(count=18, batch_size=2))
    rates = [float(row["lr/decoder"]) for row in rows_of(tmp_path) if row["lr/decoder"]]
    wanted = [5e-3 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert rates == pytest.approx(wanted, rel=1e-5)


def test_a_training_without_end_is_refused(make_module, make_data, make_trainer):
    with pytest.raises(UserError, match=r"max_epochs or trainer\.max_steps"):
        make_trainer(epochs=-1).fit(make_module(), make_data())
