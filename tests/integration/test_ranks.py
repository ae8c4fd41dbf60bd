"""Two processes on the CPU, started as a user starts them, train what one process trains."""

import csv
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .conftest import ROOT, read_until, running

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
FSDP = (
    *("trainer=fsdp", "trainer.accelerator=cpu", "trainer.precision=32-true"),
    "trainer.deterministic=true",
)


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.fixture(scope="module")
def alone(program):
    done = program("train.py", *WORDS)
    assert done.status == 0, done.err[-3000:]
    return done


@pytest.mark.parametrize(
    "words", [DDP, FSDP, ("data.batch_size=4",)], ids=["ddp", "fsdp", "accumulation"]
)
def test_the_same_training_wherever_it_runs(alone, program, words) -> None:
    done = program("train.py", *WORDS, *words, fresh=words in (DDP, FSDP))
    assert done.status == 0, done.err[-3000:]
    assert_same(done.run, alone.run)
    assert done.metrics["rows"] == alone.metrics["rows"]


@pytest.fixture(scope="module", params=[DDP, FSDP], ids=["from ddp", "from fsdp"])
def begun(request, cache, tmp_path_factory) -> Path:
    """The directory of a run on two processes that was told to end after a few steps."""
    folder = tmp_path_factory.mktemp("begun")
    words = (str(ROOT / "train.py"), *WORDS, *request.param, "hydra.run.dir=begun")
    with running(*words, cwd=folder, env={"PHI3V_CACHE": str(cache)}) as process:
        read_until(process, "step 1/")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    return folder / "begun"


@pytest.mark.parametrize("words", [(), DDP, FSDP], ids=["to one", "to ddp", "to fsdp"])
def test_a_training_goes_on_somewhere_else(begun, alone, program, tmp_path, words) -> None:
    run = Path(shutil.copytree(begun, tmp_path / "begun"))
    done = program(
        "train.py", *WORDS, *words, f"hydra.run.dir={run}", "resume=true", fresh=bool(words)
    )
    assert done.status == 0, done.err[-3000:]
    assert "going on after step" in done.out
    assert_same(run, alone.run)


def assert_same(run: Path, other: Path) -> None:
    """The same losses by step, and the same adapter, as far as the order of sums lets them be."""
    assert losses(run) == pytest.approx(losses(other), abs=1e-5)
    weights, own = (
        load_file(one / "adapter" / "adapter_model.safetensors") for one in (other, run)
    )
    assert weights.keys() == own.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(own[name], tensor, atol=1e-5, rtol=0)


def test_an_error_that_all_ranks_meet_ends_all_of_them(program) -> None:
    done = program("train.py", *WORDS, *DDP, "data.max_length=50", fresh=True)
    assert done.status == 2
    assert "error: " in done.err
