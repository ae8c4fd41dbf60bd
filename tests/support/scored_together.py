"""Answers of small models, given by one of several processes or alone.

    python tests/support/scored_together.py <checkpoint folder> <result file> <strategy> <processes>

For each kind of training: what the model writes under the controls and before training, how many
batches each process went through, and how much of the models it kept. The first process tells it
all, and saves what was trained beside the result.
"""

import gc
import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from mixed_training import TASK, rows
from torch.distributed.tensor import DTensor

from phi3v.adapter import (
    FullFineTuning,
    LoraAdapter,
    load_trained_state,
    save_adapter,
    trained_state,
)
from phi3v.data import ImageTextDataModule
from phi3v.model import Checkpoint, Phi3VForCausalLM
from phi3v.run import answering
from phi3v.run.assembly import Pieces, base_again, base_of
from phi3v.run.ranks import begin, ending_together, gathered, leave, place
from phi3v.training import ShardedStrategy

KINDS = {
    "lora": LoraAdapter(r=4, alpha=8, scope=["decoder", "projector", "vision"]),
    "pissa": LoraAdapter(r=4, alpha=8, init="pissa"),
    "full": FullFineTuning(scope=["decoder", "projector", "vision"]),
}


class Rows:
    """A source of examples that are there already."""

    def __init__(self, examples):
        self.examples = examples

    def load(self, task):
        return self.examples

    def describe(self):
        return "rows"

    def optimum(self, task):
        return {}


def train_a_little(model):
    """Moves whatever trains, on all processes by the same."""
    generator = torch.Generator().manual_seed(5)
    state = trained_state(model)
    noise = {name: torch.randn(one.shape, generator=generator) for name, one in state.items()}
    load_trained_state(model, {name: state[name] + 0.05 * noise[name] for name in state})


def kept_bytes():
    """The memory that weights of all models take in this process."""
    models = [one for one in gc.get_objects() if issubclass(type(one), Phi3VForCausalLM)]
    weights = [
        p.to_local() if isinstance(p, DTensor) else p for m in models for p in m.parameters()
    ]
    return sum({w.data_ptr(): w.untyped_storage().nbytes() for w in weights}.values())


def main(checkpoint, result, strategy, processes, trouble="none"):
    """Scores every kind, and writes the result where this is the first process."""
    divided = strategy == "fsdp"
    trainer = Trainer(
        accelerator="cpu", devices=int(processes), logger=False, enable_checkpointing=False,
        strategy=ShardedStrategy() if divided else strategy, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=Path(result).parent,
    )  # fmt: skip
    begin(trainer)
    folder = Path(result).with_suffix("")
    pictures = folder / f"pictures of rank {trainer.global_rank}"
    pictures.mkdir(parents=True)
    examples = rows(pictures)[:18]
    told = {}
    passes = []
    generate = answering.generate_answers

    def counted(*arguments):
        passes.append(0)
        return generate(*arguments)

    answering.generate_answers = counted
    for kind, adapter in KINDS.items():
        loaded = Checkpoint(checkpoint).load(hollow=divided and not adapter.reads_weights)
        data = ImageTextDataModule(
            Rows(examples), TASK, loaded.processor, {"train": 0.5, "test": 0.5}, 2, 256
        )
        data.setup()

        def reload(hollow):
            return Checkpoint(checkpoint).load(hollow=hollow)

        pieces = Pieces(TASK, data, loaded, reload)
        torch.manual_seed(1)
        model = adapter.attach(loaded.model)
        kept = []

        @contextmanager
        def before_training(model=model, pieces=pieces, kept=kept):
            if trouble == f"error:{trainer.global_rank}":
                print("failing at", time.time(), file=sys.stderr, flush=True)
                raise ArithmeticError(f"failed on rank {trainer.global_rank}")
            with base_of(model, lambda: base_again(pieces, trainer))() as base:
                yield base
                gc.collect()
                kept.append(kept_bytes())

        with ending_together(trainer):
            place(model.eval(), loaded.weights, trainer)
            train_a_little(model)
            save_adapter(model, folder / kind, writes=trainer.is_global_zero)
            passes.clear()
            answers = answering.answer(
                model, TASK, data, split="test", max_new_tokens=6, base=before_training,
                device=trainer.strategy.root_device,
            )  # fmt: skip
        rank = trainer.global_rank
        told[kind] = {
            "own": answers.own,
            "controls": answers.controls,
            "before": answers.before,
            "passes": [int(n) for _, n in sorted(gathered({rank: str(len(passes))}).items())],
            "kept": max(int(n) for n in gathered({rank: str(kept[0])}).values()),
            "whole": sum(4 * p.numel() for p in model.parameters()),
        }
        del model, pieces, loaded, before_training, data, reload
        gc.collect()
    leave()
    if trainer.is_global_zero:
        Path(result).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
