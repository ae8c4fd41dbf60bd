"""Two processes on the CPU, started as a user starts them, train what one process trains."""

import csv
import functools
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .conftest import ROOT, Finished, read_until, warm

pytestmark = pytest.mark.slow

WORDS = (
    "experiment=lora_r16",
    "data.rows=41",
    "trainer.max_epochs=2",
    "max_new_tokens=8",
    "batch_size=8",
    "adapter.scope=[decoder,projector,vision]",
)
DDP = ("trainer.devices=2", "trainer.strategy=ddp")
FSDP = (
    *("trainer=fsdp", "trainer.accelerator=cpu", "trainer.precision=32-true"),
    "trainer.deterministic=true",
    "model.gradient_checkpointing=true",  # which may change when a run goes on
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
    # Under FSDP the second process is started in the same way.
    done = program("train.py", *WORDS, *words, fresh=words == DDP)
    assert done.status == 0, done.err[-3000:]
    assert_same(done.run, alone.run)
    assert_same_scores(done, alone)


PLACES = {"one": (), "ddp": DDP, "fsdp": FSDP}


@pytest.fixture(scope="module")
def begun(cache, tmp_path_factory):
    """The directory of a run on two processes that was told to end after a few steps."""

    @functools.cache
    def begin(place: str) -> Path:
        folder = tmp_path_factory.mktemp("begun")
        words = (str(ROOT / "train.py"), *WORDS, *PLACES[place], "hydra.run.dir=begun")
        with warm(*words, cwd=folder, env={"PHI3V_CACHE": str(cache)}) as process:
            read_until(process, "step 1/")
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=120)
        assert process.returncode == 143, err
        return folder / "begun"

    return begin


# In the same place it ends with the same bytes: test_killed for FSDP, test_launchers for DDP.
@pytest.mark.parametrize(
    ("here", "there"), [("ddp", "one"), ("ddp", "fsdp"), ("fsdp", "one"), ("fsdp", "ddp")]
)
def test_a_training_goes_on_somewhere_else(begun, alone, program, tmp_path, here, there) -> None:
    run = Path(shutil.copytree(begun(here), tmp_path / "begun"))
    words = (*WORDS, *PLACES[there], f"hydra.run.dir={run}", "resume=true")
    done = program("train.py", *words)
    assert done.status == 0, done.err[-3000:]
    assert "going on after step" in done.out
    assert_same(run, alone.run)
    assert_same_scores(done, alone)


def assert_same(run: Path, other: Path) -> None:
    """The same losses by step, and the same adapter, as far as the order of sums lets them be."""
    assert losses(run) == pytest.approx(losses(other), abs=1e-5)
    weights, own = (
        load_file(one / "adapter" / "adapter_model.safetensors") for one in (other, run)
    )
    assert weights.keys() == own.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(own[name], tensor, atol=1e-5, rtol=0)


def assert_same_scores(done: Finished, alone: Finished) -> None:
    """The same texts, and so the same figures; the loss is a sum in another order."""
    one, other = ((each.run / "predictions.jsonl").read_text() for each in (alone, done))
    assert other == one
    before, now = ({**each.metrics, "metrics": None} for each in (alone, done))
    assert now == before
    figures = {name: value for name, value in alone.metrics["metrics"].items() if value is not None}
    assert len({json.loads(line)["prediction"] for line in one.splitlines()}) > 1
    assert figures["val/loss"] > 0
    for name, value in figures.items():
        assert done.metrics["metrics"][name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("words", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_a_run_is_evaluated_on_several_processes(alone, program, words) -> None:
    done = program("eval.py", f"run={alone.run}", *words)
    assert done.status == 0, done.err[-3000:]
    assert "the run's test figures, exactly" in done.out
    assert [one.name for one in done.run.parent.iterdir()].count(done.run.name) == 1
    one, other = ((each.run / "predictions.jsonl").read_text() for each in (alone, done))
    assert other == one
    assert done.metrics["systems"] == alone.metrics["systems"]


def test_an_evaluation_does_not_wait_for_nodes_that_nobody_started(alone, program) -> None:
    done = program("eval.py", f"run={alone.run}", "trainer.num_nodes=2", "batch_size=8")
    assert done.status == 2
    assert "trainer.num_nodes=2: this is one process on one node" in done.err


def test_an_adapter_that_starts_from_the_weights_is_the_same_training_too(program) -> None:
    words = (*WORDS, "adapter.init=pissa", "trainer.max_epochs=1")
    alone = program("train.py", *words)
    assert alone.status == 0, alone.err[-3000:]
    divided = program("train.py", *words, *FSDP, "trainer.strategy.cpu_offload=true")
    assert divided.status == 0, divided.err[-3000:]
    assert_same(divided.run, alone.run)
    assert_same_scores(divided, alone)


def test_a_whole_model_is_trained_divided_and_kept_whole(program) -> None:
    words = ("experiment=full", "data.rows=41", "trainer.max_epochs=1", "max_new_tokens=8")
    # Adam moves a weight whose gradient is nearly nothing by the rate, whatever rounding made it.
    words = (*words, "optimizer.lr=5e-4")
    alone, divided = program("train.py", *words), program("train.py", *words, *FSDP)
    assert divided.status == 0, divided.err[-3000:]
    assert_same_scores(divided, alone)
    weights, own = (
        load_file(each.run / "model" / "model.safetensors") for each in (alone, divided)
    )
    assert weights.keys() == own.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(own[name], tensor, atol=1e-5, rtol=0)
    again = program("eval.py", f"run={divided.run}")  # divided as it was trained
    assert again.status == 0, again.err[-3000:]
    assert "the run's test figures, exactly" in again.out


def test_an_error_that_all_ranks_meet_ends_all_of_them(program) -> None:
    done = program("train.py", *WORDS, *DDP, "data.max_length=50")
    assert done.status == 2
    assert "error: " in done.err
