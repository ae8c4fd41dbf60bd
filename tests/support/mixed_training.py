"""A training on rows with and without pictures, as one of several processes or alone.

    python tests/support/mixed_training.py <checkpoint folder> <result file> <strategy> <processes>

Every step has eight rows. In some steps one process has no picture, and the processes have other
numbers of pictures and rows. What comes out is told by the first process: losses by step, the
trained weights, and what the model wrote in validation.
"""

import json
import sys
import time
import traceback
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from phi3v.adapter import LoraAdapter, trained_state
from phi3v.data import Example
from phi3v.data.collation import Collator
from phi3v.errors import UserError
from phi3v.metric import FieldMetrics
from phi3v.model import Checkpoint
from phi3v.optim import AdamW, Cosine
from phi3v.task import Task
from phi3v.training import FineTuning, GradientCheck, RankGuard, ShardedStrategy

# Of each step: 1 stands for a row with a picture. Halves are the shares of two processes; in the
# first step, in which gradients are checked, one of them has no picture.
STEPS = ("11110000", "11111111", "00001110", "00000000", "1000111")
TASK = Task("plain", "Which?", "{colour}", {"colour": "label"}, "colour/accuracy")
COLOURS = ("red", "green", "blue")


def rows(folder: Path) -> list[Example]:
    """A picture of another size for every row."""
    found = []
    for number in range(8 * len(STEPS)):
        path = folder / f"{number}.png"
        size = (20 + 13 * (number % 5), 20 + 9 * (number % 3))
        Image.new("RGB", size, COLOURS[number % 3]).save(path)
        values = {"colour": COLOURS[number % 3]}
        found.append(Example(f"{number:02}", (path,), values, f"{number}", f"row {number}"))
    return found


def without_pictures(batch, pictured):
    """Leaves the pictures out of all rows but those named; their placeholders become words."""
    batch = dict(batch)
    chosen = torch.tensor(pictured, dtype=torch.bool)
    for name in ("input_ids", "prompt_input_ids"):
        if name in batch:
            ids = batch[name]
            batch[name] = torch.where(chosen[:, None], ids, ids.clamp(min=0))
    batch["pixel_values"] = batch["pixel_values"][chosen] if any(pictured) else None
    batch["image_sizes"] = batch["image_sizes"][chosen] if any(pictured) else None
    return batch


class Steps(LightningDataModule):
    """The steps above, cut into the shares of the processes and their micro-batches."""

    def __init__(self, examples, processor, micro_batches):
        super().__init__()
        self.examples = examples
        self.processor = processor
        self.micro_batches = micro_batches

    def batches(self, mode, parts, wanted):
        collate = Collator(self.processor, TASK, 256, mode=mode)
        for number, step in enumerate(STEPS):
            examples = self.examples[8 * number : 8 * number + len(step)]
            size = 8 // parts
            for part in range(parts):
                if part % self.trainer.world_size == wanted:
                    chosen = slice(part * size, (part + 1) * size)
                    marks = [mark == "1" for mark in step[chosen]]
                    yield without_pictures(collate(examples[chosen]), marks)

    def loader(self, mode, parts):
        batches = list(self.batches(mode, parts, self.trainer.global_rank))
        return DataLoader(batches, batch_size=None)

    def train_dataloader(self):
        return self.loader("train", self.trainer.world_size * self.micro_batches)

    def val_dataloader(self):
        return self.loader("eval", 2)


class Record(Callback):
    """Notes the loss of every step."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if len(self.losses) < trainer.global_step:
            self.losses.append(float(trainer.callback_metrics["train/loss"]))


class Trouble(Callback):
    """Fails in the second step of one process, or spoils the first one.

    Args:
        what: "error:<rank>"; "cut:all", which lets no gradient through to the vision; or "none".
    """

    def __init__(self, what):
        self.what, _, self.rank = what.partition(":")

    def on_train_start(self, trainer, pl_module):
        if self.what == "cut":
            for name, part in pl_module.model.named_modules():
                if name.endswith("vision_embed_tokens.img_processor"):
                    part.register_forward_hook(lambda _, inputs, out: out.detach())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if str(trainer.global_rank) != self.rank or trainer.global_step != 1:
            return
        if self.what == "error":
            print("failing at", time.time(), file=sys.stderr, flush=True)
            raise ArithmeticError(f"failed on rank {self.rank}")


def main(
    checkpoint, result, strategy, processes, micro_batches="1", trouble="none", whole="",
    dtype="float32",
):  # fmt: skip
    """Trains, and writes the result where this is the first process."""
    divided = strategy == "fsdp"
    loaded = Checkpoint(checkpoint, dtype=dtype).load(hollow=divided)
    torch.manual_seed(1)
    scope = [part for part in ("decoder", "projector", "vision") if part != whole]
    adapter = LoraAdapter(r=4, alpha=8, scope=scope, whole=[whole] if whole else [])
    module = FineTuning(
        adapter.attach(loaded.model), loaded.processor, TASK, AdamW(lr=5e-3), Cosine(),
        FieldMetrics(TASK, {"colour": list(COLOURS)}), max_new_tokens=6, weights=loaded.weights,
    )  # fmt: skip
    record = Record()
    trainer = Trainer(
        accelerator="cpu", devices=int(processes), max_epochs=2, num_sanity_val_steps=0,
        strategy=ShardedStrategy() if divided else strategy, gradient_clip_val=0.5,
        logger=False,
        callbacks=[record, RankGuard({}), GradientCheck(), Trouble(trouble)],
        enable_checkpointing=False, accumulate_grad_batches=int(micro_batches),
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        default_root_dir=Path(result).parent,
    )  # fmt: skip
    if trouble == "cut:all" and trainer.strategy.launcher is not None:
        # Each process is to tell for itself; Lightning would end the others with the first error.
        trainer.strategy.launcher.kill = lambda number: None
    folder = Path(result).with_suffix("")
    folder.mkdir(exist_ok=True)
    try:
        trainer.fit(module, Steps(rows(folder), loaded.processor, int(micro_batches)))
    except UserError:
        traceback.print_exc()
        sys.stderr.flush()
        if trainer.is_global_zero:  # with whose end all others end, also with something to say
            time.sleep(3)
        sys.exit(1)
    kept = [(p.to_local() if divided else p).numel() for p in module.model.parameters()]
    weights = trained_state(module.model)
    answers = {one.id: one.text for one in module.predictions}
    everywhere = [None] * int(processes)
    if int(processes) > 1:
        torch.distributed.all_gather_object(everywhere, answers)
    else:
        everywhere = [answers]
    if trainer.is_global_zero:
        torch.save(weights, Path(result).with_suffix(".pt"))
        told = {
            "losses": record.losses,
            "answers": {name: text for one in everywhere for name, text in one.items()},
            "accuracy": float(trainer.callback_metrics["val/colour/accuracy"]),
            "kept": sum(kept),
            "all": sum(p.numel() for p in module.model.parameters()),
        }
        Path(result).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
