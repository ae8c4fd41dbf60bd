"""How fast a training is, what it waits for, and where it stands still."""

import csv
import logging
import re
import time
import warnings

import pytest
import torch
from lightning.pytorch import Callback

from phi3v.errors import UserError
from phi3v.training import StallReport, StepLines, StepMetrics, Throughput
from phi3v.training.callbacks.throughput import peak_flops
from phi3v.training.flops import cost_of


class Sleep(Callback):
    """Holds up one step, or the loader before one batch."""

    def __init__(self, seconds, step):
        self.seconds = seconds
        self.step = step

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step + 1 == self.step:
            time.sleep(self.seconds)


def slow_loader(data, seconds):
    """Lets every picture of `data` take so long to be read."""
    encode = data._encode

    def slow(example):
        time.sleep(seconds)
        return encode(example)

    data.setup()
    data._encode = slow
    return data


@pytest.fixture
def rows(tmp_path):
    def read():
        with (tmp_path / "metrics.csv").open(newline="") as file:
            return [row for row in csv.DictReader(file) if row["train/loss"]]

    return read


def test_every_step_has_its_speed(make_module, make_data, make_trainer, tmp_path, rows):
    module = make_module()
    watch = [Throughput(seconds=0), Sleep(0.5, step=2)]
    make_trainer(1, watch, [StepMetrics(tmp_path)]).fit(module, make_data())
    steps = rows()
    assert len(steps) == 3
    for row in steps:
        seconds = float(row["train/examples"]) / float(row["speed/examples_per_s"])
        assert float(row["train/tokens"]) / float(row["speed/tokens_per_s"]) == pytest.approx(
            seconds
        )
        assert float(row["train/tflop"]) / float(row["speed/tflops"]) == pytest.approx(seconds)
        assert (seconds > 0.5) == (row["step"] == "2")
        assert 0.01 < float(row["memory/peak_gib"]) < 20
        assert "speed/mfu" not in row  # nobody knows what this CPU can do


def test_short_steps_are_measured_together(make_module, make_data, make_trainer, tmp_path, rows):
    watch = [Throughput(seconds=0.4), Sleep(0.5, step=3)]
    make_trainer(1, watch, [StepMetrics(tmp_path)]).fit(make_module(), make_data())
    first, second, third = rows()
    assert second["speed/examples_per_s"] == first["speed/examples_per_s"]  # the latest, once more
    seconds = 8 / float(third["speed/examples_per_s"])  # of the second and the third
    assert 0.5 < seconds < 1.5


def test_operations_are_those_of_real_tokens(make_module, make_data, make_trainer, tmp_path, rows):
    module, data = make_module(), make_data()
    trainer = make_trainer(1, (), [StepMetrics(tmp_path)])
    trainer.fit(module, data)
    cost, vision = cost_of(module.model), module.model.get_base_model().model.vision_embed_tokens
    in_all = 0.0
    for batch in data.train_dataloader():
        mask, sizes = batch["attention_mask"], batch["image_sizes"]
        crops = sum(h * w // vision.crop_size**2 + 1 for h, w in sizes.tolist())
        supervised = int((batch["labels"][:, 1:] >= 0).sum())
        tokens = sum(vision.count_tokens(sizes))
        in_all += cost.of(mask.sum(1).tolist(), supervised, crops, tokens) / 1e12
    assert sum(float(row["train/tflop"]) for row in rows()) == pytest.approx(in_all, rel=1e-5)


def test_padding_is_told(make_module, make_data, make_trainer, tmp_path, rows):
    data = make_data()
    make_trainer(1, (), [StepMetrics(tmp_path)]).fit(make_module(), data)
    masks = [batch["attention_mask"] for batch in data.train_dataloader()]
    whole = sum(mask.numel() for mask in masks)
    tokens = sum(float(row["train/tokens"]) for row in rows())
    assert tokens == sum(int(mask.sum()) for mask in masks)
    places = sum(float(r["train/tokens"]) / (1 - float(r["train/padding"])) for r in rows())
    assert places == pytest.approx(whole, rel=1e-5)


def test_waiting_for_data_is_told(make_module, make_data, make_trainer, tmp_path, rows, caplog):
    caplog.set_level(logging.INFO, logger="phi3v")
    data = slow_loader(make_data(), 0.3)
    callbacks = [Throughput(seconds=0), StepLines(steps=1)]
    make_trainer(1, callbacks, [StepMetrics(tmp_path)]).fit(make_module(), data)
    assert all(float(row["speed/data_wait"]) > 0.5 for row in rows()[:2])
    assert "% waiting for data" in caplog.text


@pytest.mark.parametrize("where", ["step", "data"])
def test_a_training_that_stands_still_says_where(
    make_module, make_data, make_trainer, caplog, where
):
    data = slow_loader(make_data(), 0.5) if where == "data" else make_data()
    callbacks = [StallReport(seconds=0.4)]
    callbacks += [Sleep(1.5, step=2)] if where == "step" else []
    make_trainer(1, callbacks).fit(make_module(), data)
    lines = [record.getMessage() for record in caplog.records]
    doing = (
        "in step 2"
        if where == "step"
        else r"(before the first|after step 1, before the next) batch"
    )
    pattern = rf"rank 0: nothing done for \d+ s, {doing} \(.+, .+:\d+\)"
    assert any(re.fullmatch(pattern, line) for line in lines)


def test_a_validation_without_a_training_is_watched_too(
    make_module, make_data, make_trainer, caplog, monkeypatch
):
    report, module = StallReport(seconds=0.3), make_module()
    step = module.validation_step

    def slow(batch, batch_idx):
        time.sleep(1)
        step(batch, batch_idx)

    monkeypatch.setattr(module, "validation_step", slow)
    make_trainer(1, [report]).validate(module, make_data(), verbose=False)
    doing = re.escape("in batch 1 of a validation (slow, ")
    assert re.search(rf"rank 0: nothing done for \d+ s, {doing}", caplog.text)
    thread = report.watch._thread
    thread.join(5)
    assert not thread.is_alive()


def test_a_training_that_goes_on_says_nothing(make_module, make_data, make_trainer, caplog):
    watch = StallReport(seconds=5)
    make_trainer(1, [watch]).fit(make_module(), make_data())
    assert "nothing done" not in caplog.text
    thread = watch.watch._thread
    thread.join(5)
    assert not thread.is_alive()


def test_a_watch_of_no_time_is_none(make_module, make_data, make_trainer, caplog):
    make_trainer(1, [StallReport(seconds=0), Sleep(0.5, step=2)]).fit(make_module(), make_data())
    assert "nothing done" not in caplog.text
    with pytest.raises(UserError, match="at least 0"):
        StallReport(seconds=-1)
    with pytest.raises(UserError, match="at least 0"):
        Throughput(seconds=-1)


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989e12), ("NVIDIA H100 80GB HBM3", 989.5e12), ("NVIDIA GeForce 256", None)],
)
def test_what_a_gpu_can_do_is_known_by_its_name(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning says so where it does not know
        found = peak_flops(torch.device("cuda"), torch.bfloat16)
    assert found == (peak and pytest.approx(peak, rel=0.01))
    assert peak_flops(torch.device("cpu"), torch.bfloat16) is None
