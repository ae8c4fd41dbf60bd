"""A training of about a second that goes on from where its folder was left.

train(folder)
"""

import io
import os
import resource
import signal
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from small_model import CONFIG

from phi3v.adapter import LoraAdapter, trained_state
from phi3v.data import Example, ImageTextDataModule
from phi3v.errors import UserError
from phi3v.metric import FieldMetrics
from phi3v.model import Scratch
from phi3v.optim import AdamW, Cosine
from phi3v.run.resuming import newest
from phi3v.task import Task
from phi3v.training import AtomicCheckpointIO, FineTuning, LastCheckpoint

COLOURS = ("red", "green", "blue")
TASK = Task("plain", "Which?", "{colour}", {"colour": "label"}, "colour/accuracy")


class Colours:
    """Forty-five pictures of three colours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, task: Task) -> list[Example]:
        """The examples; the pictures are drawn when they are not there."""
        self.folder.mkdir(exist_ok=True)
        found = []
        for number in range(45):
            path, colour = self.folder / f"{number}.png", COLOURS[number % 3]
            if not path.exists():
                drawn = path.with_suffix(".part")
                Image.new("RGB", (30 + number, 30), colour).save(drawn, "png")
                drawn.replace(path)
            found.append(Example(f"{number}", (path,), {"colour": colour}, f"{number}", colour))
        return found

    def describe(self) -> str:
        """One line."""
        return "colours"

    def optimum(self, task: Task) -> dict[str, float]:
        """Unknown."""
        return {}


def train(folder: Path, *callbacks: Callback) -> None:
    """Trains three epochs of ten steps with dropout, saved after each step; writes weights.pt."""
    torch.set_num_threads(1)
    loaded = Scratch(config=CONFIG, vocab_size=420, num_crops=2, seed=3).load(
        lambda: ["red green blue", "Which?"] * 3
    )
    torch.manual_seed(1)
    adapter = LoraAdapter(r=4, alpha=8, dropout=0.2, scope=["decoder", "projector"])
    module = FineTuning(
        adapter.attach(loaded.model), loaded.processor, TASK, AdamW(lr=5e-3), Cosine(),
        FieldMetrics(TASK, {"colour": list(COLOURS)}), max_new_tokens=4,
    )  # fmt: skip
    fractions = {"train": 2 / 3, "val": 1 / 6, "test": 1 / 6}
    data = ImageTextDataModule(
        Colours(folder / "pictures"), TASK, loaded.processor, fractions, 3, 256
    )
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, callbacks=[LastCheckpoint(folder, steps=1), *callbacks],
        logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, use_distributed_sampler=False, default_root_dir=folder,
        plugins=[AtomicCheckpointIO()],
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=newest(folder).checkpoint)
    torch.save(trained_state(module.model), folder / "weights.part")
    (folder / "weights.part").replace(folder / "weights.pt")


class FillUp(Callback):
    """Forbids this process to write files of a size worth mentioning, as if the disk were full."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def train_until_full(folder: Path) -> None:
    """Trains until the disk is full after three steps; writes what it says to error.txt."""
    try:
        train(folder, FillUp(3))
    except UserError as error:
        (folder / "error.txt").write_text(str(error))


def train_until_killed_in_a_checkpoint(folder: Path, number: int) -> None:
    """Trains until half of that checkpoint is on the disk, and is gone as by `kill -9`."""
    save, written = torch.save, 0

    def save_or_die(checkpoint, file) -> None:
        nonlocal written
        written += 1
        if written < number:
            save(checkpoint, file)
            return
        save(checkpoint, whole := io.BytesIO())
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_or_die
    train(folder)
