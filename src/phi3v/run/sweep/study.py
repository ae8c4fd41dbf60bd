"""Lets an Optuna study go on where it stopped, instead of asking for its first trials again.

    resume_study(config, sweep)      # before Hydra's sweeper is made

Hydra's sweeper counts its trials from nothing whenever it is started, and its sampler draws the
same numbers again. So it is told how many trials are left and given another seed, and what was
interrupted or failed is put at the head of the queue: its job then goes on in its own directory.
"""

import logging
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, open_dict, read_write

from phi3v.errors import UserError
from phi3v.run.outcome import SETTLED
from phi3v.run.sweep.directory import Job, SweepDirectory


def resume_study(config: DictConfig, sweep: SweepDirectory) -> None:
    """Adapt the configuration of a sweep to what its study knows already.

    Args:
        config: Of the sweep, with Hydra's node, whose sweeper is Optuna's.
        sweep: Its directory, with the jobs of earlier times.

    Raises:
        UserError: When there are jobs, and their study is gone or cannot be read.
    """
    jobs = [job for job in sweep.jobs() if job.begun]
    if not jobs:
        return
    sweeper, left = config.hydra.sweeper, config.hydra.sweeper.n_trials
    left -= sum(job.state in SETTLED for job in jobs)
    if sweeper.storage and sweeper.study_name:
        left += _ask_again(str(sweeper.storage), str(sweeper.study_name), jobs)
    with read_write(config), open_dict(config):
        sweeper.n_trials = max(0, left)
        # The jobs' own configurations are composed anew from these words.
        config.hydra.overrides.hydra.append(f"hydra.sweeper.n_trials={sweeper.n_trials}")
        if sweeper.sampler.get("seed") is not None:
            sweeper.sampler.seed += len(jobs)


def say_plainly() -> None:
    """Let Optuna tell of what is wrong alone, in lines like all others; its own are coloured."""
    import optuna  # an extra

    optuna.logging.set_verbosity(logging.WARNING)
    for handler in logging.getLogger("optuna").handlers:
        handler.setFormatter(logging.Formatter("optuna: %(message)s"))


def _ask_again(storage: str, name: str, jobs: Iterable[Job]) -> int:
    """Tell a study what became of its trials, and queue those that have not come to an end.

    Returns:
        How many trials are queued already whose jobs are settled: they run nothing.
    """
    import optuna  # an extra, and only where a study is gone on with

    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except Exception as error:  # databases have errors of their own
        reason = str(error.args[0] if error.args else error).partition("\n")[0]
        raise UserError(
            f"{storage}: the study of this sweep cannot be read ({reason}): put it back, or give"
            " another sweep_dir"
        ) from None
    jobs, waiting = list(jobs), []
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:  # nobody waits for it any more
            job = _job_of(trial.params, jobs)
            if job is None or job.objective is None:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            else:  # jobs outlive a sweep that is killed
                study.tell(trial.number, job.objective)
        elif trial.state == optuna.trial.TrialState.WAITING:
            # Of an earlier start, which was interrupted before it came to it.
            waiting.append(_job_of(trial.system_attrs.get("fixed_params", {}), jobs))
    trials = list(study.trials)
    for job in jobs:
        if job.state not in SETTLED and job not in waiting:
            params = next((one.params for one in trials if _is_of(one.params, job)), None)
            if params:
                study.enqueue_trial(params)
    return sum(job is not None and job.state in SETTLED for job in waiting)


def _job_of(params: dict[str, Any], jobs: Iterable[Job]) -> Job | None:
    return next((job for job in jobs if _is_of(params, job)), None)


def _is_of(params: dict[str, Any], job: Job) -> bool:
    """Whether a job was run with a trial's parameters."""
    return bool(params) and all(
        job.values.get(key.lstrip("+")) == str(value) for key, value in params.items()
    )
