"""What a run refuses before it loads a model."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from PIL import Image
from small_model import CONFIG

from phi3v.adapter import FullFineTuning, LoraAdapter, NoAdapter
from phi3v.data import Example, ImageTextDataModule
from phi3v.errors import UserError
from phi3v.model import Scratch
from phi3v.run.checks import (
    batches_planned,
    check_lora_plus,
    check_shares,
    check_trainer,
    make_trainer,
)
from phi3v.task import Task


@pytest.mark.parametrize("adapter", [FullFineTuning(), NoAdapter()], ids=["full", "none"])
def test_lora_plus_without_lora_is_refused(adapter):
    check_lora_plus(OmegaConf.create({"optimizer": {"lora_plus_ratio": 1}}), adapter)
    with pytest.raises(UserError, match=r"lora_plus_ratio=16: there is no LoRA"):
        check_lora_plus(OmegaConf.create({"optimizer": {"lora_plus_ratio": 16}}), adapter)


def test_lora_plus_with_lora_is_let_through():
    check_lora_plus(
        OmegaConf.create({"optimizer": {"lora_plus_ratio": 16}}), LoraAdapter(r=2, alpha=4)
    )


TRAINER = {"max_epochs": 3, "num_nodes": 1, "gradient_clip_val": 1.0}


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ({"max_epochs": 0}, r"trainer\.max_epochs=0: at least 1"),
        ({"max_epochs": -2}, r"trainer\.max_epochs=-2: at least 1"),
        ({"check_val_every_n_epoch": 0}, r"trainer\.check_val_every_n_epoch=0: at least 1"),
        ({"log_every_n_steps": -1}, r"trainer\.log_every_n_steps=-1: at least 0"),
        ({"gradient_clip_val": -0.5}, r"trainer\.gradient_clip_val=-0\.5: at least 0"),
        ({"num_nodes": 2}, r"trainer\.num_nodes=2: .*; start it on each of them with torchrun or"),
    ],
)
def test_what_a_trainer_takes_and_cannot_mean_is_refused(word, line):
    with pytest.raises(UserError, match=f"^{line}"):
        check_trainer(OmegaConf.create({"trainer": {**TRAINER, **word}}))


def test_what_a_trainer_can_mean_is_let_through(monkeypatch):
    for word in ({}, {"max_epochs": -1}, {"max_epochs": None}, {"gradient_clip_val": 0}):
        check_trainer(OmegaConf.create({"trainer": {**TRAINER, **word}}))
    monkeypatch.setenv("NODE_RANK", "1")  # as Lightning is told by hand
    check_trainer(OmegaConf.create({"trainer": {**TRAINER, "num_nodes": 2}}))


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_notebook"])
def test_a_strategy_that_copies_this_process_is_refused(strategy):
    node = {"_target_": "lightning.Trainer", "accelerator": "cpu", "devices": 2}
    cfg = OmegaConf.create({"trainer": {**node, "strategy": strategy}})
    with pytest.raises(UserError, match=rf"^trainer\.strategy={strategy}: it copies this process"):
        make_trainer(cfg, [])


def limits(train=1.0, val=1.0, overfit=0.0):
    return SimpleNamespace(
        limit_train_batches=train, limit_val_batches=val, overfit_batches=overfit
    )


@pytest.mark.parametrize(
    ("trainer", "line"),
    [
        (limits(train=0.16), r"limit_train_batches=0\.16: of the 6 batches of train that is none;"),
        (limits(val=0.33), r"limit_val_batches=0\.33: .* 3 batches .*; give at least 0\.3334, or"),
        (limits(train=0.1, val=0.1, overfit=0.1), r"trainer\.overfit_batches=0\.1: of the 6 "),
        (limits(train=0), "limit_train_batches=0: nothing would be trained; give at least 1"),
        (limits(train=0.0), "limit_train_batches=0: nothing would be trained"),
    ],
)
def test_a_share_that_is_no_batch_is_refused(trainer, line):
    with pytest.raises(UserError, match=line):
        check_shares(trainer, {"train": 6, "val": 3}.__getitem__)


@pytest.mark.parametrize(
    "trainer",
    [limits(), limits(0.17, 0.3334), limits(1, 1), limits(val=0), limits(val=0.0)],
)
def test_a_share_of_at_least_one_batch_is_let_through(trainer):
    check_shares(trainer, {"train": 6, "val": 3}.__getitem__)


@pytest.mark.parametrize("number", [1, 3, 7, 11, 9999])
def test_the_least_share_that_is_named_is_enough(number):
    with pytest.raises(UserError) as caught:
        check_shares(limits(train=1e-5), lambda split: number)
    least = float(str(caught.value).partition("at least ")[2].partition(",")[0])
    check_shares(limits(train=least), lambda split: number)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 2},
        {"batch_size": 2, "eval_batch_size": 3, "eval_limit": 4},
        {"batch_size": 4, "drop_last": True},
        {"batch_size": 1, "splits_file": "splits.json"},
    ],
)
@pytest.mark.parametrize("world", [1, 2])
def test_the_batches_that_are_planned_are_those_that_come(settings, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = [str(number) for number in range(40)]
    Path("splits.json").write_text(json.dumps({"train": ids[:9], "val": ids[9:20], "test": []}))
    examples = [Example(one, (Path(f"{one}.png"),), {"colour": "red"}, one, "") for one in ids]
    for one in ids:
        Image.new("RGB", (28, 28), (int(one), 0, 0)).save(f"{one}.png")
    node = {"splits": {"train": 0.6, "val": 0.25, "test": 0.15}, "seed": 3, **settings}
    task = Task("colours", "Which?", "{colour}", {"colour": "label"}, "colour/accuracy")
    source = SimpleNamespace(load=lambda task: examples, describe=lambda: "some")
    base = Scratch(config=CONFIG, vocab_size=420, num_crops=2).load(lambda: ["Which?"])
    data = ImageTextDataModule(source, task, base.processor, **node, max_length=99)
    data.setup()
    data.trainer = SimpleNamespace(
        world_size=world, accumulate_grad_batches=2, global_rank=0, current_epoch=0,
        overfit_batches=0,
    )  # fmt: skip
    cfg = OmegaConf.create({"data": node})
    for split, loader in (("train", data.train_dataloader), ("val", data.val_dataloader)):
        assert batches_planned(cfg, data.trainer, examples, None, split) == len(loader())
