"""The LightningDataModule: a source becomes loaders of batches for training and evaluation.

    data = ImageTextDataModule(source, task, processor, splits={"train": 0.8, "val": 0.1,
                               "test": 0.1}, batch_size=8, max_length=4096)
    data.setup()
    data.examples["train"], data.splits, print(data.summary())
    trainer.fit(module, datamodule=data)      # Trainer(use_distributed_sampler=False)

`setup` checks every example: what is wrong with the data is said before the first step.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median_low
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from phi3v.data.batching import LengthBatchSampler
from phi3v.data.collation import Collator, Mode
from phi3v.data.dataset import BatchLoader, ImageTextDataset, Remembering
from phi3v.data.encoding import Encoded, Lengths
from phi3v.data.example import Example, Source
from phi3v.data.refusal import refusal
from phi3v.data.splits import load_splits, make_splits, seeded_rank
from phi3v.data.workers import leave_signals_to_the_trainer
from phi3v.errors import UserError
from phi3v.model import Phi3VProcessor
from phi3v.task import Task

log = logging.getLogger(__name__)


class ImageTextDataModule(LightningDataModule):
    """Loads, divides, checks and batches the examples of one source.

    Attributes:
        examples: After `setup`, the examples of each split by name.
        splits: After `setup`, the sorted ids of each split.
        lengths: After `setup`, the lengths of each example by id.
    """

    def __init__(
        self,
        source: Source,
        task: Task,
        processor: Phi3VProcessor,
        splits: Mapping[str, float],
        batch_size: int,
        max_length: int,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        eval_limit: int | None = None,
        picture_cache_gib: float = 0,
        drop_last: bool = False,
        splits_file: str | Path | None = None,
    ) -> None:
        """Keeps the settings; nothing is read before `setup`.

        Args:
            source: Where the examples come from.
            task: What is asked and answered.
            processor: The model's processor.
            splits: Share of the rows for "train", "val" and "test".
            batch_size: Examples a training step and device.
            max_length: Most tokens of an example: the model's context or less.
            eval_batch_size: Examples a validation or test step and device; default `batch_size`.
            num_workers: Processes that decode pictures; 0 decodes in the training process.
            seed: Fixes the splits and the order of the batches.
            eval_limit: Validates on so many examples, always the same ones; None is all of them.
            picture_cache_gib: Memory in GiB, for each worker, that keeps decoded pictures.
            drop_last: Leaves out the examples beyond the last full training batch.
            splits_file: Reads the splits from here instead of making them.

        Raises:
            UserError: For a size below what it can be.
        """
        super().__init__()
        _check_sizes(
            (batch_size, "batch_size", 1), (eval_batch_size, "eval_batch_size", 1),
            (eval_limit, "eval_limit", 1), (num_workers, "num_workers", 0),
        )  # fmt: skip
        self.source = source
        self.task = task
        self.processor = processor
        self.fractions = dict(splits)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.max_length = max_length
        self.num_workers = num_workers
        self.seed = seed
        self.eval_limit = eval_limit
        self.drop_last = drop_last
        self.splits_file = Path(splits_file) if splits_file is not None else None
        self.examples: dict[str, list[Example]] = {}
        self.splits: dict[str, list[str]] = {}
        self.lengths: dict[str, Lengths] = {}
        self._training: BatchLoader | None = None
        self._resumed: dict[str, int] = {}
        self._collators = {mode: self.collator(mode) for mode in ("train", "eval")}
        self._encode = Remembering(
            self._collators["train"].encode, limit=int(picture_cache_gib * 2**30)
        )

    def collator(self, mode: Mode) -> Collator:
        """Returns a collator for this data: "train", "prompt" or "eval"."""
        return Collator(self.processor, self.task, self.max_length, mode)

    def setup(self, stage: str | None = None) -> None:
        """Loads, divides and measures the examples; a second call does nothing.

        Raises:
            UserError: For anything wrong in the data, before anything is trained.
        """
        if self.examples:
            return
        examples = self.source.load(self.task)
        by_id = {example.id: example for example in examples}
        if len(by_id) < len(examples):
            raise ValueError(f"{self.source.describe()}: the source repeats an example id")
        self.lengths = self._measured(examples)
        examples = [example for example in examples if example.id in self.lengths]
        if self.splits_file is None:
            self.splits = make_splits(examples, self.fractions, self.seed)
        else:
            self.splits = load_splits(self.splits_file, examples)
        self.examples = {name: [by_id[i] for i in ids] for name, ids in self.splits.items()}
        self._warn_of_twins()

    def longest_answer(self) -> int:
        """Returns the tokens of the longest answer with its <|end|>, after `setup`."""
        return max(lengths.answer for lengths in self.lengths.values())

    def _warn_of_twins(self) -> None:
        """Says so where a text that hardly ever repeats stands on both sides of a split."""
        for name in self.task.field_names:
            if self.task.fields[name].kind != "text":
                continue
            sides: dict[str, set[str]] = defaultdict(set)
            for split, rows in self.examples.items():
                for example in rows:
                    sides[str(example.values[name]).casefold()].add(split)
            twins = sorted(text for text, splits in sides.items() if len(splits) > 1)
            # Short answers such as yes and no repeat by nature: that is no leak.
            if twins and len(twins) <= 0.1 * len(sides):
                log.warning(
                    "%d texts of %s stand in more than one split, %r for example: if they are the "
                    "same thing, keep it together with data.group_by=[%s]",
                    len(twins), name, twins[0], name,
                )  # fmt: skip

    def train_dataloader(self) -> DataLoader[Encoded]:
        """Returns shuffled batches with labels; another order each epoch."""
        self._training = self._loader(self._examples("train"), "train")
        if self._resumed:
            self._training.load_state_dict(self._resumed)
            self._resumed = {}
        return self._training

    def state_dict(self) -> dict[str, Any]:
        """Returns the place in the epoch, in steps of the optimizer, for a checkpoint.

        Counted by the steps that were taken, not by the batches that were read for them: a step
        that was begun when the training ended has to come again.
        """
        if self.trainer is None:
            return {}
        # The last batch of an epoch ends a step, also one that has too few micro-batches.
        micro_batches = self.trainer.accumulate_grad_batches
        steps = math.ceil(self.trainer.num_training_batches / micro_batches)
        taken = self.trainer.global_step - self.trainer.current_epoch * steps
        return {"steps": taken % steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lets the training loader begin at a saved place, the next one where there is none yet.

        Lightning has a way to give a loader its state itself, but forgets it where the loader was
        made before the loops' state was read, as it is for a schedule that needs to know its steps.
        Strategies that restore after their setup have made the loader before they come here.
        """
        in_use = getattr(self.trainer, "train_dataloader", None)
        if isinstance(in_use, BatchLoader) and in_use is self._training:
            in_use.load_state_dict(state_dict)
        else:
            self._resumed = state_dict

    def val_dataloader(self) -> DataLoader[Encoded]:
        """Returns batches with labels and, beside them, the prompts for generation."""
        chosen = self._examples("val")
        if self.eval_limit is not None:
            chosen = sorted(chosen, key=lambda example: seeded_rank(example.id, self.seed))
            chosen = chosen[: self.eval_limit]
        return self._loader(chosen, "eval")

    def test_dataloader(self) -> DataLoader[Encoded]:
        """Returns batches like `val_dataloader`, of all test examples."""
        return self._loader(self._examples("test"), "eval")

    def summary(self) -> str:
        """Returns a few lines for people: examples a split, and tokens as min, median and max."""
        lengths = list(self.lengths.values())
        columns = {
            "pictures": [one.pictures for one in lengths],
            "question": [one.question for one in lengths],
            "answer": [one.answer for one in lengths],
            "together": [one.total for one in lengths],
        }
        sizes = ", ".join(f"{name} {len(rows)}" for name, rows in self.examples.items())
        tokens = ", ".join(f"{name} {_spread(counts)}" for name, counts in columns.items())
        return (
            f"data: {self.source.describe()}\n"
            f"examples: {sizes}\n"
            f"tokens an example (min/median/max): {tokens}; limit {self.max_length}"
        )

    def _measured(self, examples: Sequence[Example]) -> dict[str, Lengths]:
        """Returns lengths by id; refuses or, where the source skips, leaves out the unusable."""
        lengths, reasons = {}, []
        for example in examples:
            try:
                lengths[example.id] = self._collators["train"].encode.lengths(example)
            except UserError as error:
                reasons.append(str(error))
        if reasons and (getattr(self.source, "on_error", "raise") == "raise" or not lengths):
            raise UserError(refusal(reasons, len(examples)))
        for reason in reasons:
            log.warning("skipped %s", reason)
        if reasons:
            log.warning("skipped %d of %d examples", len(reasons), len(examples))
        return lengths

    def _examples(self, split: str) -> list[Example]:
        if split not in self.examples:
            raise UserError(f"there is no split {split!r}; splits: {', '.join(self.examples)}")
        return self.examples[split]

    def _loader(self, examples: Sequence[Example], mode: Mode) -> BatchLoader:
        training = mode == "train"
        sampler = LengthBatchSampler(
            [self.lengths[example.id].total for example in examples],
            batch_size=self.batch_size if training else self.eval_batch_size,
            seed=self.seed,
            # overfit_batches repeats the first batches of a pass: they have to stay the same ones
            shuffle=training and not getattr(self.trainer, "overfit_batches", 0),
            drop_last=training and self.drop_last,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
            accumulate=self.trainer.accumulate_grad_batches if training and self.trainer else 1,
        )
        if training and self.trainer:
            sampler.set_epoch(self.trainer.current_epoch)
        return BatchLoader(
            ImageTextDataset(examples, self._encode),
            sampler,
            collate_fn=self._collators[mode].stack,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=leave_signals_to_the_trainer,
            pin_memory=torch.cuda.is_available(),
            # A generator of its own, so that making an iterator takes no number from the global
            # one: dropout does not depend on how often was validated.
            generator=torch.Generator().manual_seed(self.seed),
        )


def _check_sizes(*sizes: tuple[int | None, str, int]) -> None:
    for value, name, least in sizes:
        if value is not None and value < least:
            raise UserError(f"data.{name}={value}: must be {least} or more")


def _spread(counts: Sequence[int]) -> str:
    return f"{min(counts)}/{median_low(counts)}/{max(counts)}"
