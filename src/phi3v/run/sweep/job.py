"""One job of a sweep: run in a process of its own, unless it has been."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from phi3v.config.front_door import COMMAND, refuse
from phi3v.config.resolvers import count_devices
from phi3v.errors import UserError
from phi3v.run.lock import held_with_heirs, only_program_on
from phi3v.run.obstacle import obstacle
from phi3v.run.outcome import GOOD, SETTLED, Outcome, out_of_memory_kills
from phi3v.run.rank_outcomes import first_cause
from phi3v.run.sweep.callback import finish
from phi3v.run.sweep.directory import SweepDirectory
from phi3v.run.sweep.nursery import PRELOAD, ForkedJob, can_fork
from phi3v.run.sweep.places import gpus_for, hold_gpus, share
from phi3v.run.sweep.process import clean_environment, hand_on, job_command, submitit_of, wait_for
from phi3v.run.sweep.report import bring_up_to_date
from phi3v.run.sweep.stopping import (
    begin_no_other,
    end_jobs,
    is_stopping,
    leave_ctrl_c_to_the_sweep,
    note_process,
)
from phi3v.run.sweep.table import progress

TERMINAL = "terminal.log"

log = logging.getLogger(__name__)


class NoFigureError(RuntimeError):
    """A trial of a search came to no figure; its sweeper takes that, and no NaN."""


def run_job(cfg: DictConfig, folder: Path, program: str) -> float:
    """Run one job of a sweep, unless it has been; what came of it is in the sweep's files.

    Returns:
        The job's objective; NaN where there is none.

    Raises:
        NoFigureError: Instead of NaN, in a search.
        SystemExit: When the sweep is to end: by a signal, with `fail_fast`, or because what becomes
            of a job cannot be written down, as on a full disk.
    """
    _wait_for_another(folder, f"job {folder.name}")
    try:
        with held_with_heirs(folder) as lock:  # another may have just begun
            outcome, searches = _run_job(cfg, folder, program, lock)
    except UserError as error:
        refuse(error)
    if searches and outcome.objective is None:
        _end_if_vain()
        raise NoFigureError(f"job {folder.name} {outcome.status}: {outcome.reason}")
    return outcome.figure


def _run_job(cfg: DictConfig, folder: Path, program: str, lock: int) -> tuple[Outcome, bool]:
    hydra = HydraConfig.get()
    sweep, name = SweepDirectory(hydra.sweep.dir), f"job {folder.name}"
    plan = sweep.plan()
    searches, at_once = plan is not None and not plan.jobs, plan.at_once if plan else 1
    ended = Outcome("interrupted", reason="the sweep was ended before it")
    known = Outcome.read(folder) if sweep.is_begun(folder) else None
    if known and known.status in SETTLED:
        log.info("%s is done already: %s", name, known.status)
        return known, searches
    if is_stopping(sweep.path):
        return ended, searches
    if at_once > 1:
        leave_ctrl_c_to_the_sweep()
    goes_on = sweep.is_begun(folder) and "resume" in cfg
    if problem := obstacle(cfg, folder, goes_on):
        log.error("%s is not started: %s", name, problem)
        return Outcome("failed", reason=problem), searches
    sweep.begin_job(folder)
    try:
        outcome = _elsewhere(cfg, folder, goes_on, at_once, program, lock)
    except SystemExit as end:
        with contextlib.suppress(UserError):  # a full disk: the next start finds it out
            if Outcome.read(folder) is None:
                ended.write(folder)
            sweep.update()
        print(f"\ninterrupted; the same command goes on\nsweep: {sweep.path}", file=sys.stderr)
        if not submitit_of(os.environ):
            raise
        try:
            hand_on(end)
        except Exception as error:
            log.error("%s: %s", name, error)
        return Outcome.read(folder) or ended, searches
    if outcome.status not in GOOD:
        log.error("%s %s: %s (see %s)", name, outcome.status, outcome.reason, folder)
    if plan and not is_stopping(sweep.path):
        jobs, _ = bring_up_to_date(sweep, plan)
        print(f"\n{progress(plan, jobs)}\n", flush=True)
        if outcome.status not in GOOD and cfg.get("fail_fast"):
            try:
                if submitit_of(os.environ):  # which wants a result; others may be anywhere
                    begin_no_other(sweep.path)
                    return outcome, searches
                if at_once > 1:
                    end_jobs(sweep.path, but=folder)
            except FileExistsError:  # another has failed and ends this one
                return outcome, searches
            finish(sweep)
            raise SystemExit(1)
    return outcome, searches


def _end_if_vain() -> None:
    """End a search of which nothing came with its last trial: Optuna's sweeper stumbles over it."""
    hydra = HydraConfig.get()
    if hydra.job.num + 1 < hydra.sweeper.n_trials:  # those that are left for this start
        return
    sweep = SweepDirectory(hydra.sweep.dir)
    if all(job.objective is None and job.state != "running" for job in sweep.jobs()):
        finish(sweep)
        raise SystemExit(0)  # all were pruned before they had a figure


def _wait_for_another(folder: Path, name: str) -> None:
    """A job outlives a sweep that is killed: let it come to its end."""
    try:
        with only_program_on(folder, patience=0), held_with_heirs(folder, wait=False):
            return
    except BlockingIOError:
        log.warning("%s: its process has just begun or is just ending; waiting for its end", name)
        return
    except UserError as error:
        log.warning("%s: %s; waiting for its end", name, str(error).partition(";")[0])
    with only_program_on(folder, patience=-1):
        return


def _elsewhere(
    cfg: DictConfig, folder: Path, goes_on: bool, at_once: int, program: str, lock: int
) -> Outcome:
    """Run a job in a process of its own."""
    hydra = HydraConfig.get()
    argv = json.loads(os.environ[COMMAND])
    command = job_command(argv, hydra.overrides.task, hydra.overrides.hydra, folder, goes_on)
    environment = clean_environment(os.environ)
    begun = time.time()
    killed_before = out_of_memory_kills()
    # Hydra has opened the log file of the job already and its process goes on writing there.
    if at_once > 1 and submitit_of(os.environ) != "slurm":  # which gives each what it asked for
        devices = count_devices(cfg.trainer.devices)
        gpus = gpus_for(cfg.trainer.accelerator, environment)
        held = hold_gpus(folder.parent, devices, gpus)
        with held as own, (folder / TERMINAL).open("ab") as output:
            environment |= share(at_once, devices, own, environment)
            # What several jobs have to say at once, nobody can read.
            apart = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, pass_fds=(lock,)
            )
            note_process(lock, apart.pid)
            status = wait_for(apart)
            note_process(lock, None)
    elif can_fork(cfg, program):
        status = wait_for(ForkedJob(command, environment, PRELOAD[program], lock))
    else:
        status = wait_for(subprocess.Popen(command, env=environment, pass_fds=(lock,)))
    outcome = Outcome.read(folder)
    if outcome is None or (status != 0 and outcome.status == "ok"):
        # Lightning kills the first process when another one has failed and it does not notice.
        outcome = first_cause(folder, begun) or Outcome.of_status(
            status, out_of_memory_kills() > killed_before
        )
        outcome.write(folder)
    return outcome
