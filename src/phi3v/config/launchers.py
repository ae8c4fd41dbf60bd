"""What torchrun, SLURM and W&B's agents tell the processes of a training that they start.

    name = launched_job(os.environ)     # "torchrun-<id>", "slurm-<job>-<step>", "wandb-<run>", None
    rank = launched_rank(os.environ)

Such processes start all at once, and each of them composes the configuration for itself. What they
have to agree on, like the directory of the run, can only come from the launcher; and a job that is
started again after an interruption gets the same name again, but for torchrun on one node without
an endpoint, which makes up a new id at each start.
"""

import os
from collections.abc import Mapping

from phi3v.errors import UserError

_INTERACTIVE = ("bash", "interactive")  # names of SLURM's jobs in which a person types commands


def launched_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """A name that all processes of a launched training share; None where there is no launcher.

    Raises:
        UserError: When torchrun gave them none.
    """
    if run := agent_run(environment):
        return f"wandb-{run}"  # an agent that goes on with a run gives it the same id again
    if "TORCHELASTIC_RUN_ID" in environment:
        name = environment["TORCHELASTIC_RUN_ID"]
        if name == "none":
            raise UserError(
                "torchrun: give the training a name that all nodes share, --rdzv-id=NAME with"
                " --rdzv-backend=c10d --rdzv-endpoint=HOST:PORT"
            )
        return f"torchrun-{name}"
    if not _by_srun(environment):
        return None
    job = environment.get("SLURM_ARRAY_JOB_ID")
    task = environment.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{task}" if job and task else environment["SLURM_JOB_ID"]
    return f"slurm-{name}-{environment['SLURM_STEP_ID']}"


def agent_run(environment: Mapping[str, str] = os.environ) -> str | None:
    """The id of the run that an agent of W&B has started this process for; None without one."""
    return environment.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in environment else None


def launched_rank(environment: Mapping[str, str] = os.environ) -> int:
    """This process's place among those of the launcher; 0 where there is none."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return int(environment["RANK"])
    return int(environment["SLURM_PROCID"]) if _by_srun(environment) else 0


def launched_processes(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes the launcher has started; 1 where there is none."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return int(environment["WORLD_SIZE"])
    return int(environment.get("SLURM_NTASKS", 1)) if _by_srun(environment) else 1


def is_first_process(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the first of its run, by what launchers put into the environment."""
    rank = environment.get("RANK")
    if rank is None and _by_srun(environment):  # elsewhere Lightning starts the others by itself
        rank = environment["SLURM_PROCID"]
    if rank is not None:
        return rank == "0"
    return {environment.get("LOCAL_RANK", "0"), environment.get("NODE_RANK", "0")} == {"0"}


def process_name(environment: Mapping[str, str] = os.environ) -> str:
    """This process's rank among all of its run, as far as its environment tells.

    What Lightning starts knows its node and its place there; beyond the first node it is both.
    """
    if "RANK" in environment:
        return environment["RANK"]
    if _by_srun(environment):
        return environment["SLURM_PROCID"]
    node, local = environment.get("NODE_RANK", "0"), environment.get("LOCAL_RANK", "0")
    return local if node == "0" else f"{node}.{local}"


def _by_srun(environment: Mapping[str, str]) -> bool:
    needed = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID")
    interactive = environment.get("SLURM_JOB_NAME") in _INTERACTIVE
    return all(name in environment for name in needed) and not interactive
