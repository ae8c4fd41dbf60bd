"""What a training leaves: the rows of its metrics.csv, and a copy of what it trained."""

import csv

from phi3v.adapter import trained_state


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def snapshot(module):
    return {name: tensor.clone() for name, tensor in trained_state(module.model).items()}
