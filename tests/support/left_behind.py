"""What a training leaves: its metrics.csv, a copy of what it trained, or weights that moved."""

import csv
from pathlib import Path

import torch

from phi3v.adapter import trained_state


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def snapshot(module):
    return {name: tensor.clone() for name, tensor in trained_state(module.model).items()}


def moved(model):
    """The model, every trained tensor of which has moved, as a training would move it."""
    generator = torch.Generator().manual_seed(11)
    for tensor in trained_state(model).values():
        tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.05)
    return model


def steps_in(folder: Path) -> dict[str, int]:
    """The optimizer steps that each checkpoint in a folder was saved after."""
    return {
        file.name: torch.load(file, weights_only=True)["global_step"]
        for file in folder.glob("*.ckpt")
    }
