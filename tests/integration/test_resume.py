"""A training that was interrupted goes on, and ends with what it would have ended with."""

import csv
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from .conftest import SMALL, read_until
from .test_endings import started

pytestmark = pytest.mark.slow

WORDS = ("adapter.dropout=0.1", "trainer.max_epochs=2")
WEIGHTS = "adapter/adapter_model.safetensors"


def losses(run: Path) -> list[tuple[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [(r["step"], r["train/loss"]) for r in csv.DictReader(file) if r["train/loss"]]


@pytest.fixture(scope="module")
def whole(program):
    done = program("train.py", *SMALL, *WORDS)
    assert done.status == 0, done.err[-3000:]
    return done.run


@pytest.fixture(scope="module")
def interrupted(cache, tmp_path_factory) -> Path:
    """The directory of a run that was told to end after a few steps."""
    folder = tmp_path_factory.mktemp("interrupted")
    with started(cache, folder, *WORDS, "hydra.run.dir=begun") as process:
        read_until(process, "step 1/")
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "run=" in err
    run = folder / "begun"
    assert out.strip().splitlines()[-1].endswith("begun")
    assert not (run / "metrics.json").exists()
    return run


@pytest.fixture
def begun(interrupted, tmp_path) -> Path:
    """A copy of it, in another place."""
    return Path(shutil.copytree(interrupted, tmp_path / "begun"))


def assert_same(run: Path, whole: Path) -> None:
    assert losses(run) == losses(whole)
    assert (run / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert (run / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()


def test_an_interrupted_run_goes_on_to_the_same_bytes(begun, whole, program) -> None:
    done = program("train.py", f"run={begun}")
    assert done.status == 0, done.err[-3000:]
    assert done.run == begun
    assert "going on after step" in done.out
    assert_same(begun, whole)
    again = program("train.py", f"run={begun}")
    assert again.status == 2
    assert "has come to its end" in again.err


def test_what_a_run_went_on_with_is_what_it_is_scored_with(begun, program) -> None:
    splits, begun_with = (begun / "splits.json").stat(), (begun / "config.yaml").read_bytes()
    refused = program("train.py", f"run={begun}", "data.batch_size=4")  # of which dropout knows
    assert refused.status == 2
    assert (begun / "config.yaml").read_bytes() == begun_with
    done = program("train.py", f"run={begun}", "max_new_tokens=12")
    assert done.status == 0, done.err[-3000:]
    assert yaml.safe_load((begun / "config.yaml").read_text())["max_new_tokens"] == 12
    again = program("eval.py", f"run={begun}")
    assert "the run's test figures, exactly" in again.out, again.err[-3000:]
    same = (begun / "splits.json").stat()
    assert (same.st_ino, same.st_mtime_ns) == (splits.st_ino, splits.st_mtime_ns)


def test_a_torn_checkpoint_is_told_and_the_one_before_is_taken(begun, whole, program) -> None:
    last = begun / "checkpoints" / "last.ckpt"
    kept = last.read_bytes()
    (last.parent / "before.ckpt").write_bytes(kept)
    middle = len(kept) // 2
    last.write_bytes(kept[:middle] + bytes([kept[middle] ^ 1]) + kept[middle + 1 :])
    done = program("train.py", *SMALL, *WORDS, f"hydra.run.dir={begun}", "resume=true")
    assert done.status == 0, done.err[-3000:]
    assert "last.ckpt cannot be read" in done.out + done.err
    assert_same(begun, whole)


def test_only_the_same_training_goes_on(begun, program) -> None:
    words = (*SMALL, *WORDS, "resume=true", "optimizer.lr=1e-3")
    refused = program("train.py", *words, f"hydra.run.dir={begun}")
    assert refused.status == 2
    assert "another training, optimizer.lr differs" in refused.err
    env = {"PHI3V_RUNS": str(begun.parent)}
    (begun.parent / "lora_r16").mkdir()
    begun.rename(begun.parent / "lora_r16" / "begun")
    own = program("train.py", *words, "debug=step", env=env)
    assert own.status == 0, own.err[-3000:]
    assert own.run.name != "begun"
    found = program("train.py", *SMALL, *WORDS, "resume=true", env=env)
    assert found.status == 0, found.err[-3000:]
    assert found.run.name == "begun"
