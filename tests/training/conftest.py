"""A Phi-3-Vision of a few thousand parameters and real data to train it on: pictures of a colour.

The question is the colour's name; a picture answers it, so a training that works gets the loss
down, and one that is cut off from the pictures does not.
"""

import copy
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from left_behind import rows_of
from lightning.pytorch import Callback, Trainer
from PIL import Image
from small_model import CONFIG

from phi3v.adapter import LoraAdapter, trained_state
from phi3v.data import Example, ImageTextDataModule
from phi3v.metric import FieldMetrics
from phi3v.model import Scratch
from phi3v.optim import AdamW, Constant, Cosine
from phi3v.task import Task
from phi3v.training import FineTuning, Interruption, StepMetrics

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (30, 40, 220)}


class Pictures:
    """A source of plain pictures, each with its colour and a number."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count

    def load(self, task):
        names = list(COLOURS)
        return [self._example(i, names[i % len(names)]) for i in range(self.count)]

    def _example(self, number, colour):
        path = self.folder / f"{number}.png"
        if not path.exists():
            # Slightly different ones: pictures with the same bytes stay on one side of a split.
            shade = tuple(min(255, value + number) for value in COLOURS[colour])
            Image.new("RGB", (30 + number % 3 * 20, 30), shade).save(path)
        values = {"colour": colour, "number": float(1 + number % 4)}
        return Example(f"p{number}", (path,), values, f"p{number}", f"row {number}")

    def describe(self):
        return "plain pictures"

    def optimum(self, task):
        return {}


@pytest.fixture(scope="session")
def task():
    fields = {"colour": "label", "number": "number"}
    return Task("plain", "Which?", "{colour}, {number}", fields, "colour/accuracy")


@pytest.fixture(scope="session")
def loaded():
    model = Scratch(config=CONFIG, vocab_size=420, num_crops=2, seed=3)
    return model.load(lambda: ["red green blue", "Which?"] * 3)


@pytest.fixture
def processor(loaded):
    return loaded.processor


@pytest.fixture
def base(loaded):
    return copy.deepcopy(loaded.model)


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture
def make_data(picture_folder, task, processor):
    """Makes a data module over `count` pictures, a sixth of them for validation."""

    def make(count=18, batch_size=4):
        source = Pictures(picture_folder, count)
        fractions = {"train": 4 / 6, "val": 1 / 6, "test": 1 / 6}
        return ImageTextDataModule(source, task, processor, fractions, batch_size, 256)

    return make


@pytest.fixture
def make_module(base, processor, task):
    """Makes the module for a model, by default the base with a LoRA on decoder and projector."""

    def make(model=None, lr=5e-3, schedule=None, **settings):
        if model is None:
            torch.manual_seed(1)
            model = LoraAdapter(r=4, alpha=8, scope=["decoder", "projector"]).attach(base)
        metrics = FieldMetrics(task, {"colour": list(COLOURS), "number": [1.0, 2.0, 4.0]})
        parts = (processor, task, AdamW(lr=lr), schedule or Constant(), metrics)
        return FineTuning(model, *parts, max_new_tokens=8, **settings)

    return make


@pytest.fixture
def make_trainer(tmp_path):
    """Makes a quiet trainer on the CPU that logs every step."""

    def make(epochs=2, callbacks=(), logger=False, **settings):
        return Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=list(callbacks),
            logger=logger,
            enable_checkpointing=any("Checkpoint" in type(c).__name__ for c in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            num_sanity_val_steps=settings.pop("num_sanity_val_steps", 0),
            use_distributed_sampler=False,
            default_root_dir=tmp_path,
            **settings,
        )

    return make


@pytest.fixture
def batch(make_data):
    """One batch of validation: five rows with pictures of different shapes, labels and prompts."""
    data = make_data(count=30, batch_size=8)
    data.setup()
    return next(iter(data.val_dataloader()))


@pytest.fixture
def folder(tmp_path):
    """Where checkpoints go; made by whoever writes the first."""
    return tmp_path / "run" / "checkpoints"


class Signal(Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step, number):
        self.step = step
        self.number = number

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


class Killed(Exception):
    """What ends a training before its time."""


@pytest.fixture
def run(base, make_module, make_data, make_trainer, tmp_path):
    """Trains three epochs on 17 examples in steps of up to 6; losses by step and final weights."""

    def train(
        name, batch_size=6, accumulate=1, dropout=0.0, workers=0, stop=None, resume=None,
        keep=None, ends=Killed, others=(), **settings,
    ):  # fmt: skip
        torch.manual_seed(1)
        adapter = LoraAdapter(r=4, alpha=8, dropout=dropout, scope=["decoder", "projector"])
        module = make_module(adapter.attach(base), schedule=Cosine())
        data = make_data(count=26, batch_size=batch_size)
        data.num_workers = workers
        trainer = make_trainer(
            3, [one for one in (stop, Interruption(), keep, *others) if one],
            [StepMetrics(tmp_path / name)],
            accumulate_grad_batches=accumulate, gradient_clip_val=1.0, **settings,
        )  # fmt: skip
        with pytest.raises(ends) if stop and ends else nullcontext() as caught:
            trainer.fit(module, data, ckpt_path=resume)
        train.caught = caught
        logged = (tmp_path / name / "metrics.csv").is_file()  # unless it ended in the first step
        rows = [row for row in rows_of(tmp_path / name) if row["train/loss"]] if logged else []
        weights = {n: t.clone() for n, t in trained_state(module.model).items()}
        module.model.unload()
        return [(row["step"], row["epoch"], row["train/loss"]) for row in rows], weights

    return train
