"""A sweep: its jobs, what came of each, the answer, and going on after whatever happened."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from phi3v.run.lock import only_program_on
from phi3v.run.outcome import Outcome
from phi3v.run.sweep.places import cores

from .conftest import Start, jobs_of, only_sweep


@pytest.mark.slow
def test_every_outcome_is_told_and_no_job_ends_the_sweep(start: Start, here: Path) -> None:
    done = start("-m", "adapter.r=13,14,15,17,18,19,20,21,16", "hydra.sweep.dir=all")
    assert done.returncode == 1
    assert "error: 8 of 9 jobs failed" in done.stderr
    assert "error: thirteen is bad luck" in done.stderr
    assert 'raise RuntimeError("a bug")' in done.stderr
    jobs = jobs_of(here / "all")
    assert [job["status"] for job in jobs] == [
        *("failed", "failed", "failed", "diverged"),
        *("out_of_memory", "interrupted", "failed", "diverged", "ok"),
    ]
    reasons = [job["reason"] for job in jobs]
    assert reasons[:4] == [
        *("thirteen is bad luck", "RuntimeError: a bug", "the process ended with status 9"),
        "the loss is nan",
    ]
    assert reasons[4:] == [
        *("MemoryError: there is no more", "ended by SIGKILL", "rank 1: RuntimeError: a bug"),
        *("the objective is nan", ""),
    ]
    assert [job["objective"] for job in jobs] == [None] * 8 + [8.0]
    assert jobs[8]["seconds"] > 0
    assert 0.01 < jobs[8]["peak_memory_gib"] < 10
    assert "best val/full_price/mape: 800.0 % (job 8)" in done.stdout
    with (here / "all" / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ranks = "13 14 15 17 18 19 20 21 16"
    assert [row["adapter.r"] for row in rows] == ranks.split()
    assert rows[8]["objective"] == "8.0"
    assert rows[7]["objective"] == ""


@pytest.mark.slow
def test_the_same_command_again_runs_what_is_not_done(
    start: Start, here: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen.txt"
    command = ("-m", "adapter.r=4,14,17,19", "optimizer.lr=0.5")
    first = start(*command, environment={"SEEN": str(seen)})
    assert first.returncode == 1
    again = start(*command, environment={"SEEN": str(seen)})
    assert seen.read_text().split() == ["4", "14", "17", "19", "14", "19"]
    assert "going on with this sweep: 1 of 4 jobs are done" in again.stdout
    statuses = [job["status"] for job in jobs_of(only_sweep(here))]
    assert statuses == ["ok", "failed", "diverged", "ok"]
    anew = start(*command, "resume=false", "fail_fast=true")
    assert anew.returncode == 1
    assert len(list(here.glob("runs/*/*_sweep"))) == 2


@pytest.mark.slow
def test_a_sweep_that_is_done_is_answered_without_running_anything(
    start: Start, here: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen.txt"
    command = ("-m", "experiment=lora_r8,lora_r16", "seed=7,8", "sweep_dir=mine")
    assert start(*command, environment={"SEEN": str(seen)}).returncode == 0
    again = start(*command, environment={"SEEN": str(seen)})
    assert again.returncode == 0
    assert seen.read_text().split() == ["8", "8", "16", "16"]
    assert "best val/full_price/mape: 405.0 % ± 7.1 % over 2 seeds (jobs 0, 1)" in again.stdout
    assert "  python train.py experiment=lora_r8\n" in again.stdout
    assert (here / "mine" / "sweep.html").is_file()
    other = start("-m", "optimizer.lr=1,2", "sweep_dir=mine")
    assert other.returncode == 2
    assert "mine: there is another sweep in it" in other.stderr


@pytest.mark.slow
def test_a_value_that_comes_twice_is_two_jobs(start: Start, here: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.txt"
    for _ in range(2):
        done = start("-m", "adapter.r=4,8,4", "sweep_dir=mine", environment={"SEEN": str(seen)})
        assert done.returncode == 0, done.stderr
    assert seen.read_text().split() == ["4", "8", "4"]
    assert [job["objective"] for job in jobs_of(here / "mine")] == [2.0, 4.0, 2.0]


@pytest.mark.slow
def test_a_sweep_may_get_more_values(start: Start, here: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.txt"
    assert start("-m", "adapter.r=4,8", "seed=7,8", "sweep_dir=mine").returncode == 0
    longer = ("-m", "adapter.r=2,4,8", "seed=7,9", "sweep_dir=mine")
    assert start(*longer, environment={"SEEN": str(seen)}).returncode == 0
    assert seen.read_text().split() == ["2", "2", "4", "8"]
    found = {(job["overrides"]["adapter.r"], job["overrides"]["seed"]): job["objective"]
             for job in jobs_of(here / "mine")}  # fmt: skip
    assert found == {
        ("2", "7"): 1.0, ("2", "9"): 1.2, ("4", "7"): 2.0, ("4", "8"): 2.1,
        ("4", "9"): 2.2, ("8", "7"): 4.0, ("8", "8"): 4.1, ("8", "9"): 4.2,
    }  # fmt: skip


@pytest.mark.slow
def test_two_programs_do_not_work_on_one_sweep(start: Start, here: Path) -> None:
    (here / "mine").mkdir()
    with only_program_on(here / "mine"):
        done = start("-m", "adapter.r=4,8", "sweep_dir=mine")
    assert done.returncode == 2
    assert f"mine: process {os.getpid()} on " in done.stderr
    assert not (here / "mine" / "0").exists()


@pytest.mark.slow
def test_fail_fast_ends_the_sweep_with_the_first_job_that_fails(start: Start, here: Path) -> None:
    done = start("-m", "adapter.r=4,13,8", "fail_fast=true")
    assert done.returncode == 1
    statuses = [job["status"] for job in jobs_of(only_sweep(here))]
    assert statuses == ["ok", "failed", "waiting"]
    assert "error: 1 of 3 jobs failed, 1 did not run" in done.stderr
    assert "best val/full_price/mape" in done.stdout


@pytest.mark.slow
def test_a_sweep_that_is_told_to_end_ends_its_job_and_goes_on(
    home: Path, here: Path, start: Start, begins_with: Callable[..., None]
) -> None:
    begins_with(
        "import time",
        "if cfg.adapter.r == 6 and not (run / 'once').exists():",
        "    (run / 'once').touch()",
        "    print('waiting', flush=True)",
        "    time.sleep(60)",
    )
    command = [sys.executable, str(home / "train.py"), "-m", "adapter.r=4,6,8"]
    with subprocess.Popen(
        command, cwd=here, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            while (process.stdout.readline()) != "waiting\n":
                assert process.poll() is None
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)  # to the sweep alone, and not only once
            process.send_signal(signal.SIGTERM)
            err = process.communicate(timeout=30)[1]
        finally:
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert time.monotonic() - begun < 20
    assert process.returncode == 143
    assert "the same command goes on" in err
    statuses = [job["status"] for job in jobs_of(only_sweep(here))]
    assert statuses == ["ok", "interrupted", "waiting"]
    again = start("-m", "adapter.r=4,6,8")
    assert again.returncode == 0, again.stderr
    assert [job["objective"] for job in jobs_of(only_sweep(here))] == [2.0, 3.0, 4.0]


@pytest.mark.slow
def test_several_jobs_run_at_once_each_in_its_own_place(
    start: Start, here: Path, begins_with: Callable[..., None]
) -> None:
    begins_with(
        "import time",
        "(run / 'times').write_text(f'{time.time()}')",
        "time.sleep(4)",
        "(run / 'threads').write_text(os.environ['OMP_NUM_THREADS'])",
    )
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = start("-m", "adapter.r=4,13,8", "sweep_dir=mine", *launcher)
    assert done.returncode == 1, done.stderr
    sweep = here / "mine"
    assert [job["status"] for job in jobs_of(sweep)] == ["ok", "failed", "ok"]
    begun = sorted(float((sweep / job / "times").read_text()) for job in "012")
    assert begun[1] - begun[0] < 4
    assert begun[2] - begun[0] >= 4
    assert (sweep / "0" / "threads").read_text() == str(max(1, cores() // 2))
    assert "thirteen is bad luck" in (sweep / "1" / "terminal.log").read_text()
    assert "best val/full_price/mape: 200.0 % (job 0)" in done.stdout


@pytest.mark.slow
def test_a_job_that_fails_again_and_again_has_each_of_its_times_counted_once(
    start: Start, here: Path, begins_with: Callable[..., None]
) -> None:
    begins_with("import time", "time.sleep(1)")
    spent = 0.0
    for _ in range(3):
        start("-m", "adapter.r=13", "sweep_dir=mine")
        spent += Outcome.read(here / "mine" / "0").seconds
    assert spent > 3
    assert jobs_of(here / "mine")[0]["seconds"] == pytest.approx(spent, abs=0.2)


@pytest.mark.slow
def test_jobs_at_once_wait_for_gpus_that_are_there(
    start: Start, here: Path, begins_with: Callable[..., None]
) -> None:
    begins_with(
        "import time",
        "(run / 'gpus').write_text(os.environ['CUDA_VISIBLE_DEVICES'])",
        "time.sleep(2)",
    )
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    words = ("trainer=ddp,cpu", "adapter.r=4,8", "sweep_dir=mine")
    done = start("-m", *words, *launcher, environment={"CUDA_VISIBLE_DEVICES": "5,7,9"})
    assert done.returncode == 0, done.stderr
    seen = [(here / "mine" / job / "gpus").read_text() for job in "0123"]
    assert seen == ["5,7", "5,7", "5,7,9", "5,7,9"]
