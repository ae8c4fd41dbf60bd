"""Which run a training may go on with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from phi3v.config import public_config, save_config
from phi3v.config.front_door import _check, _find_run, read_arguments
from phi3v.config.resuming import first_difference, unfinished_run

WORDS = ("experiment=lora_r16",)


@pytest.fixture
def runs(composed: Any, tmp_path: Path) -> Any:
    """Makes directories of runs that were begun."""

    def make(name: str, *words: str, status: str | None = None, saved: bool = True) -> Path:
        run = tmp_path / "runs" / name
        (run / "checkpoints").mkdir(parents=True)
        save_config(composed(*WORDS, *words), run)
        if saved:
            (run / "checkpoints" / "last.ckpt").touch()
        if status:
            (run / "outcome.json").write_text(json.dumps({"status": status}))
        return run

    return make


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["optimizer.lr=1"], "optimizer.lr"),
        (["seed=8"], "seed"),
        (["adapter.r=8"], "adapter.r"),
        (["data.rows=100"], "data.rows"),
        (["trainer.max_epochs=9"], "trainer.max_epochs"),
        (["data.num_workers=3", "logger=csv", "name=other", "trainer.profiler=simple"], None),
        (["resume=true", "callbacks.progress.seconds=1", "data.batch_size=4"], None),
        # What a training that was stopped by a step that is not finite is told to give.
        (["max_skipped_steps=1"], None),
        (["trainer.devices=2", "trainer.strategy=ddp"], None),
    ],
)
def test_what_decides_the_training_is_compared_and_nothing_else(composed, words, key) -> None:
    base = public_config(composed(*WORDS))
    other = public_config(composed(*WORDS, *words))
    assert first_difference(base, other) == key


def test_the_latest_unfinished_run_of_the_same_training_is_found(composed, runs, tmp_path) -> None:
    plain = public_config(composed(*WORDS))
    assert unfinished_run(tmp_path / "runs", plain) is None
    runs("1", status="interrupted")
    wanted = runs("2", status="failed")
    runs("3", "optimizer.lr=1", status="interrupted")
    runs("4", status="ok")
    runs("5", saved=False)
    (tmp_path / "runs" / "6" / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "6" / "config.yaml").write_text("{")
    (tmp_path / "runs" / "6" / "checkpoints" / "last.ckpt").touch()
    assert unfinished_run(tmp_path / "runs", plain) == wanted
    # Its last checkpoint was torn and put aside, and nothing has been saved since.
    (wanted / "checkpoints" / "last.ckpt").rename(wanted / "checkpoints" / "previous.ckpt")
    assert unfinished_run(tmp_path / "runs", plain) == wanted


@pytest.fixture
def found(conf, tmp_path, monkeypatch) -> Any:
    """What a process of torchrun adds to its command line."""
    monkeypatch.setenv("PHI3V_RUNS", str(tmp_path))
    for name, value in {"TORCHELASTIC_RUN_ID": "abc", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)

    def look(*words: str, conf: Path = conf) -> list[str]:
        given = [*WORDS, "name=runs", *words]
        arguments = read_arguments(given)
        composed = _check(arguments, conf, "train")
        assert composed.plain["resume"] is True
        _find_run(arguments, composed)
        return arguments.overrides[len(given) :]

    return look


def test_torchrun_goes_on_with_an_unfinished_run_when_that_is_asked(runs, found) -> None:
    assert found("resume=true") == []
    runs("1", status="ok")
    begun = runs("2", status="interrupted")
    assert found("resume=true") == [f"hydra.run.dir='{begun}'"]
    assert found() == []  # that it goes on is the default there, under the name of the job
    assert found("resume=true", "hydra.run.dir=elsewhere") == []


def test_a_file_that_asks_for_it_is_as_good_as_the_command_line(
    runs, found, conf, tmp_path
) -> None:
    begun = runs("1", status="interrupted")
    shutil.copytree(conf, tmp_path / "conf")
    mine = tmp_path / "conf" / "local" / "default.yaml"
    mine.write_text("# @package _global_\nresume: true\n", encoding="utf-8")
    assert found(conf=tmp_path / "conf") == [f"hydra.run.dir='{begun}'"]
    mine.write_text("# @package _global_\nseed: 7\n", encoding="utf-8")
    assert found(conf=tmp_path / "conf") == []


def test_all_processes_of_torchrun_find_the_same_whoever_looks_first(
    composed, runs, found, tmp_path
) -> None:
    runs("1", status="interrupted")
    begun = runs("2", status="interrupted")
    first = found("resume=true")
    # What the first process may write there before the others look.
    save_config(composed(*WORDS, "max_new_tokens=8", "resume=true"), begun)
    (begun / "outcome.json").write_text(json.dumps({"status": "failed"}))
    assert found("resume=true") == first == [f"hydra.run.dir='{begun}'"]


def test_a_run_under_the_name_of_the_job_is_that_jobs(runs, found) -> None:
    runs("other", status="interrupted")
    runs("torchrun-abc", saved=False)
    assert found("resume=true") == []


def test_an_agents_run_is_no_other_one(runs, found, monkeypatch) -> None:
    runs("other", status="interrupted")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "r")
    assert found("resume=true") == []


def test_a_moved_machine_is_the_same_training(composed, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PHI3V_CACHE", str(tmp_path / "here"))
    before = public_config(composed(*WORDS))
    monkeypatch.setenv("PHI3V_CACHE", str(tmp_path / "there"))
    assert first_difference(before, public_config(composed(*WORDS))) is None


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), {"trainer.devices": 1, "data.batch_size": 8, "trainer.accumulate_grad_batches": 1}),
        (("data.batch_size=4",), {"data.batch_size": 4, "trainer.accumulate_grad_batches": 2}),
        (
            ("trainer.devices=2", "trainer.strategy=ddp"),
            {"data.batch_size": 4, "trainer.accumulate_grad_batches": 1},
        ),
        (
            ("trainer=fsdp", "trainer.accelerator=cpu"),
            {
                "trainer.max_epochs": 5, "trainer.precision": "32-true", "trainer.devices": 2,
                "trainer.limit_val_batches": 0.5, "data.batch_size": 4,
                "trainer.strategy._target_": "phi3v.training.ShardedStrategy",
            },
        ),
        (("trainer=fsdp", "trainer.max_epochs=6"), {"trainer.max_epochs": 6}),
    ],
)  # fmt: skip
def test_a_step_keeps_its_examples_wherever_a_run_goes_on(runs, program, words, found) -> None:
    run = runs("begun", "trainer.max_epochs=5", "trainer.limit_val_batches=0.5")
    done = program("train.py", f"run={run}", *words, "--cfg", "job")
    assert done.returncode == 0, done.stderr[-2000:]
    plain = OmegaConf.create(done.stdout)
    assert {key: OmegaConf.select(plain, key) for key in found} == found
