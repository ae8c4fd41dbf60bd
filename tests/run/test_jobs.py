"""Jobs as a user starts them: alone, in a sweep, failing, from another directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phi3v.config.launchers import is_first_process, launched_job
from phi3v.run.lock import only_program_on
from phi3v.run.outcome import Outcome
from phi3v.run.sweep.process import clean_environment, job_command

from .conftest import Start

SRUN = {
    "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train.sh",
}  # fmt: skip


def only(pattern: str, where: Path) -> Path:
    [found] = where.glob(pattern)
    return found


def seen(folder: Path) -> dict[str, object]:
    return json.loads((folder / "seen.json").read_text(encoding="utf-8"))


def test_a_run_lies_in_a_directory_named_after_its_experiment(start: Start, tmp_path: Path) -> None:
    done = start("experiment=lora_r8")
    assert done.returncode == 0, done.stderr
    folder = only("here/runs/lora_r8/*", tmp_path)
    assert len(folder.name) == len("2026-01-31_23-59-59-123456")
    assert Outcome.read(folder) == Outcome("ok", 4.0)
    assert seen(folder)["cwd"] == str(tmp_path / "here")
    assert (folder / "train.log").is_file()
    assert not (tmp_path / "home of it" / "runs").exists()


def test_a_directory_with_a_run_in_it_is_left_as_it_is(start: Start, tmp_path: Path) -> None:
    left = tmp_path / "here" / "used" / "metrics.csv"
    left.parent.mkdir()
    left.write_text("step\n")
    (left.parent / "outcome.json").write_text('{"status": "ok"}')
    done = start("hydra.run.dir=used")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "there is a run in it already (metrics.csv)" in done.stderr
    assert (left.parent / "outcome.json").read_text() == '{"status": "ok"}'
    assert left.read_text() == "step\n"
    # The other jobs of a sweep are run all the same.
    (left.parent / "0").mkdir()
    left.rename(left.parent / "0" / left.name)
    swept = start("-m", "adapter.r=2,4", "hydra.sweep.dir=used")
    assert "there is a run in it already" in swept.stdout + swept.stderr
    assert not (left.parent / "0" / "seen.json").exists()
    assert seen(left.parent / "1")["r"] == 4


def test_two_programs_do_not_work_on_one_run(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "here" / "mine"
    run.mkdir()
    with only_program_on(run):
        done = start("hydra.run.dir=mine")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"mine: process {os.getpid()} on " in done.stderr
    assert not (run / "outcome.json").exists()
    assert not (run / "seen.json").exists()


def test_an_error_of_the_user_is_one_line_and_status_2(start: Start, tmp_path: Path) -> None:
    done = start("adapter.r=13")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: thirteen is bad luck"]
    folder = only("here/runs/default/*", tmp_path)
    assert Outcome.read(folder) == Outcome("failed", None, "thirteen is bad luck")
    assert "thirteen is bad luck" in (folder / "train.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(("rank", "reason"), [(4, []), (13, ["error: thirteen is bad luck"])])
def test_an_outcome_that_cannot_be_written_is_one_line_and_hides_no_other(
    start: Start, begins_with, tmp_path: Path, rank: int, reason: list[str]
) -> None:
    begins_with('(run / "outcome.json.part").symlink_to("/dev/full")')
    done = start(f"adapter.r={rank}")
    assert done.returncode == 2
    line, *others = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "outcome.json: it cannot be written" in line
    assert others == reason
    assert Outcome.read(only("here/runs/default/*", tmp_path)) is None


def test_a_log_that_cannot_be_written_is_one_line_and_hides_no_error(
    start: Start, here: Path
) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "train.log").symlink_to("/dev/full")
    done = start("adapter.r=13", "hydra.run.dir=mine")
    assert done.returncode == 2
    line, *others = done.stderr.splitlines()
    assert line.endswith("train.log: messages are missing there (No space left on device)")
    assert others == ["error: thirteen is bad luck"]


def test_a_disk_that_is_full_is_told_once_where_the_outcome_has_no_room_either(
    start: Start, begins_with
) -> None:
    begins_with(
        '(run / "outcome.json.part").symlink_to("/dev/full")',
        "import errno",
        "raise OSError(errno.ENOSPC, 'No space left on device', 'a.ckpt')",
    )
    done = start("hydra.run.dir=mine")
    reason = "a.ckpt: No space left on device: make space; a training goes on with resume=true"
    assert (done.returncode, done.stderr) == (2, f"error: {reason}\n")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_disk_that_is_full_under_a_training_is_one_line(
    start: Start, begins_with, here: Path, rank: str
) -> None:
    begins_with("import errno", "raise OSError(errno.ENOSPC, 'No space left on device', 'a.ckpt')")
    done = start("hydra.run.dir=mine", environment={"LOCAL_RANK": rank})
    reason = "a.ckpt: No space left on device: make space; a training goes on with resume=true"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {reason}\n")
    file = "outcome.json" if rank == "0" else "outcome_rank_1.json"
    assert Outcome.read(here / "mine", file) == Outcome("failed", None, reason)


def test_a_program_that_leaves_by_itself_has_failed(start: Start, begins_with, here: Path) -> None:
    begins_with("raise SystemExit(255)")
    done = start("hydra.run.dir=mine")
    reason = "the program ended with status 255"
    assert (done.returncode, done.stderr) == (255, f"\nerror: {reason}\n")
    assert Outcome.read(here / "mine") == Outcome("failed", None, reason)


def test_a_bug_keeps_its_traceback_on_the_screen_and_in_the_log(
    start: Start, tmp_path: Path
) -> None:
    done = start("adapter.r=14")
    assert done.returncode == 1
    folder = only("here/runs/default/*", tmp_path)
    for text in (done.stderr, (folder / "train.log").read_text(encoding="utf-8")):
        assert 'raise RuntimeError("a bug")' in text
    assert "HYDRA_FULL_ERROR" not in done.stderr
    assert Outcome.read(folder) == Outcome("failed", None, "RuntimeError: a bug")


LOST = "Connection closed by peer"


def test_another_process_that_lost_the_first_says_so_in_its_log_alone(
    start: Start, here: Path
) -> None:
    log = ("hydra.job.name=other", "hydra.run.dir=mine")
    done = start("adapter.r=22", *log, environment={"LOCAL_RANK": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert f"RuntimeError: [third_party/gloo/gloo/pair.cc:1] {LOST}" in (
        here / "mine" / "other.log"
    ).read_text(encoding="utf-8")


def test_the_first_process_tells_what_another_one_failed_of_in_one_line(
    start: Start, begins_with, tmp_path: Path
) -> None:
    begins_with('Outcome("failed", reason="no space").write(run, "outcome_rank_1.json")')
    done = start("adapter.r=22")
    assert (done.returncode, done.stderr) == (1, "error: rank 1: no space\n")
    folder = only("here/runs/default/*", tmp_path)
    assert Outcome.read(folder) == Outcome("failed", None, "rank 1: no space")
    assert LOST in (folder / "train.log").read_text(encoding="utf-8")


def test_a_connection_lost_to_a_process_that_the_system_has_killed_is_want_of_memory(
    start: Start, begins_with, here: Path
) -> None:
    begins_with(
        "from phi3v.run import outcome",
        "outcome._CGROUP = run / 'memory.events'",
        "outcome._CGROUP.write_text('oom 1000000000\\noom_kill 1000000000\\n')",
    )
    done = start("adapter.r=22", "hydra.run.dir=mine")
    reason = "killed by the system, which had no memory left (another process of this job)"
    assert (done.returncode, done.stderr) == (1, f"error: {reason}\n")
    assert Outcome.read(here / "mine") == Outcome("out_of_memory", None, reason)
    assert LOST in (here / "mine" / "train.log").read_text(encoding="utf-8")


def test_the_first_process_tells_of_a_lost_connection_that_nobody_has_explained(
    start: Start,
) -> None:
    done = start("adapter.r=22")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert LOST in done.stderr


@pytest.mark.slow
def test_jobs_of_a_sweep_are_fresh_processes_with_their_own_values(
    start: Start, tmp_path: Path
) -> None:
    ranks = {"LOCAL_RANK": "3", "WORLD_SIZE": "8", "MASTER_PORT": "1"}
    done = start("-m", "adapter.r=4,8", "optimizer.lr=0.5", environment=ranks)
    assert done.returncode == 0, done.stderr
    sweep = only("here/runs/default/*_sweep", tmp_path)
    jobs = [seen(sweep / number) for number in ("0", "1")]
    assert [(job["r"], job["lr"], job["rank"]) for job in jobs] == [(4, 0.5, None), (8, 0.5, None)]
    assert jobs[0]["pid"] != jobs[1]["pid"]
    assert [Outcome.read(sweep / number) for number in ("0", "1")] == [
        Outcome("ok", 2.0),
        Outcome("ok", 4.0),
    ]
    assert f"sweep: {sweep.relative_to(tmp_path / 'here')}" in done.stdout


def test_a_job_gets_its_own_overrides_and_none_of_the_sweeps() -> None:
    command = job_command(
        ["train.py", "-m", "--config-dir", "mine", "adapter.r=4,8"],
        task=["adapter.r=4", "name='a b'"],
        hydra=["hydra.sweep.dir=x", "hydra/launcher=basic", "hydra.verbose=true"],
        folder=Path("it's here/0"),
    )
    assert command[1:] == [
        *("train.py", "--config-dir", "mine", "adapter.r=4", "name='a b'", "hydra.verbose=true"),
        *("hydra.mode=RUN", "hydra.run.dir='it\\'s here/0'"),
    ]


def test_nothing_of_a_launcher_is_inherited() -> None:
    kept = clean_environment(
        {
            "RANK": "1",
            "MASTER_ADDR": "x",
            "TORCHELASTIC_RUN_ID": "1",
            "WANDB_RUN_ID": "a",
            "HOME": "h",
        }
    )
    assert kept == {"HOME": "h"}


def test_a_job_of_submitits_is_no_process_of_a_step_of_slurms() -> None:
    task = {**SRUN, "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    assert clean_environment(task) == task
    kept = clean_environment({**task, "SUBMITIT_EXECUTOR": "slurm"})
    # Lightning, too, takes what has no SLURM_NTASKS for no process of a step.
    assert set(kept) == {"SLURM_JOB_ID", "SUBMITIT_EXECUTOR"}
    assert launched_job(kept) is None


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "RANK": "4"}, False),
        ({"LOCAL_RANK": "0", "RANK": "0"}, True),
        ({**SRUN, "SLURM_PROCID": "2"}, False),
        (SRUN, True),
        # In an interactive job Lightning starts the others; all of them have its SLURM_PROCID.
        ({**SRUN, "SLURM_JOB_NAME": "bash", "LOCAL_RANK": "1"}, False),
        ({**SRUN, "SLURM_JOB_NAME": "interactive", "LOCAL_RANK": "0"}, True),
        ({"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # sbatch alone
    ],
)
def test_the_first_process_is_known_from_the_environment(
    environment: dict[str, str], first: bool
) -> None:
    assert is_first_process(environment) is first


def test_importing_the_module_costs_nothing() -> None:
    heavy = "[name for name in ('torch', 'lightning', 'transformers') if name in sys.modules]"
    code = f"import sys, phi3v.run.jobs, phi3v.config.front_door; print({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
