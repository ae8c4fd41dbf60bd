"""What torchrun and SLURM say: one name for all processes, the same one after a restart."""

import pytest

from phi3v.config.front_door import _join_others, read_arguments
from phi3v.config.launchers import (
    launched_job,
    launched_processes,
    launched_rank,
    process_name,
)
from phi3v.errors import UserError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "abc", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SRUN = {
    "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3", "SLURM_PROCID": "2", "SLURM_NTASKS": "8",
    "SLURM_JOB_NAME": "train.sh",
}  # fmt: skip
ARRAY = {**SRUN, "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "5"}


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, (None, 0, 1)),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, (None, 0, 1)),  # of Lightning's own launcher
        (TORCHRUN, ("torchrun-abc", 1, 4)),
        (SRUN, ("slurm-12-3", 2, 8)),
        (ARRAY, ("slurm-9_5-3", 2, 8)),
        ({**SRUN, "SLURM_JOB_NAME": "bash"}, (None, 0, 1)),
        ({"SLURM_JOB_ID": "12", "SLURM_NTASKS": "8"}, (None, 0, 1)),  # sbatch without srun
    ],
)
def test_what_launchers_tell(environment, told):
    job, rank, processes = told
    assert launched_job(environment) == job
    assert launched_rank(environment) == rank
    assert launched_processes(environment) == processes


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "0"),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, "1"),
        ({"LOCAL_RANK": "1", "NODE_RANK": "2"}, "2.1"),
        ({**TORCHRUN, "RANK": "3"}, "3"),
        (SRUN, "2"),
        ({**SRUN, "SLURM_JOB_NAME": "bash", "LOCAL_RANK": "1"}, "1"),
    ],
)
def test_each_process_has_a_name_of_its_own(environment, name):
    assert process_name(environment) == name


def test_torchrun_without_a_name_is_told_what_to_give():
    with pytest.raises(UserError, match="--rdzv-id=NAME"):
        launched_job({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"})


def test_only_the_first_process_writes_hydras_files(monkeypatch):
    arguments = read_arguments(["seed=8"])
    _join_others(arguments, "train")
    assert arguments.overrides == ["seed=8"]
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    _join_others(arguments, "train")
    assert {"hydra.output_subdir=null", "hydra.job.name=train_rank_1"} <= {*arguments.overrides}


def test_what_lightning_starts_has_a_log_named_after_its_rank(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    arguments = read_arguments(["seed=8", "hydra.job.name=train_ddp_process_1"])
    _join_others(arguments, "eval")
    assert arguments.overrides == ["seed=8", "hydra.job.name=eval_rank_1"]


def test_several_processes_do_not_sweep(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"start it with python train\.py -m"):
        _join_others(read_arguments(["-m", "seed=7,8"]), "train")
