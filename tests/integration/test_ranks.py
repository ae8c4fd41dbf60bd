"""Two processes on the CPU, started as a user starts them, train what one process trains."""

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

WORDS = (
    "experiment=lora_r16",
    "data.rows=61",
    "trainer.max_epochs=2",
    "max_new_tokens=24",
    "batch_size=8",
    "adapter.scope=[decoder,projector,vision]",
)
DDP = ("trainer.devices=2", "trainer.strategy=ddp")


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.fixture(scope="module")
def alone(program):
    done = program("train.py", *WORDS)
    assert done.status == 0, done.err[-3000:]
    return done


@pytest.mark.parametrize("words", [DDP, ("data.batch_size=4",)], ids=["ddp", "accumulation"])
def test_the_same_training_wherever_it_runs(alone, program, words) -> None:
    done = program("train.py", *WORDS, *words, fresh=words is DDP)
    assert done.status == 0, done.err[-3000:]
    assert losses(done.run) == pytest.approx(losses(alone.run), abs=1e-5)
    weights, own = (
        load_file(run / "adapter" / "adapter_model.safetensors") for run in (alone.run, done.run)
    )
    assert weights.keys() == own.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(own[name], tensor, atol=1e-5, rtol=0)
    assert done.metrics["rows"] == alone.metrics["rows"]


def test_an_error_that_all_ranks_meet_ends_all_of_them(program) -> None:
    done = program("train.py", *WORDS, *DDP, "data.max_length=50", fresh=True)
    assert done.status == 2
    assert "error: " in done.err
