"""Hydra's callback around a sweep: one program at a time on it, its list of jobs, its answer.

In conf/train.yaml:  hydra.callbacks.sweep._target_: phi3v.run.sweep.callback.Sweep
"""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from phi3v.config.front_door import TYPED, read_arguments, refuse
from phi3v.config.resolvers import count_devices
from phi3v.config.saving import FILE as CONFIG
from phi3v.config.sweeps import (
    config_flags,
    fixes_settings,
    grid,
    job_overrides,
    objective_of,
    sweep_words,
)
from phi3v.errors import UserError
from phi3v.run.lock import only_program_on
from phi3v.run.outcome import GOOD, SETTLED
from phi3v.run.sweep.directory import Job, Plan, SweepDirectory
from phi3v.run.sweep.places import cores, gpus_for, note_threads, places
from phi3v.run.sweep.report import bring_up_to_date
from phi3v.run.sweep.stopping import begin, ending_jobs_on_signals
from phi3v.run.sweep.study import resume_study, say_plainly
from phi3v.run.sweep.table import ending, listing


class Sweep(Callback):
    """Begins and ends a sweep; a sweep with a job that is not ok ends with status 1.

    Args:
        dry_run: Show what would run, write nothing, and end there.
    """

    def __init__(self, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self._held = contextlib.ExitStack()

    def __getstate__(self) -> dict[str, bool]:
        """What a launcher's process needs; the lock stays where the sweep was started."""
        return {"dry_run": self.dry_run}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the directory, write the plan down and show it."""
        with _told():
            self._start(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Give the answer."""
        with _told(), self._held:
            finish(SweepDirectory(config.hydra.sweep.dir))

    def _start(self, config: DictConfig) -> None:
        sweep = SweepDirectory(config.hydra.sweep.dir)
        searches = config.hydra.runtime.choices.get("hydra/sweeper") == "optuna"
        _refuse_tasks(config)
        note_threads(os.environ)
        plan = planned(config)
        plan = replace(plan, at_once=divide(config, plan))
        if (sweep.path / CONFIG).exists():
            raise UserError(f"{sweep.path}: there is a run in it; give another sweep_dir")
        if not self.dry_run:
            sweep.path.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(only_program_on(sweep.path))
        _refuse_another(sweep, plan)
        known = sweep.plan() is not None
        if not self.dry_run:
            if searches:
                say_plainly()
                resume_study(config, sweep)
            begin(sweep.path)
            if "n_jobs" in config.hydra.launcher and plan.at_once > 1:
                self._held.enter_context(ending_jobs_on_signals(sweep.path))
            sweep.begin(plan)
        jobs = sweep.jobs(plan)
        print(listing(sweep, plan, jobs), flush=True)
        if known:
            print(_standing(plan, jobs, searches), flush=True)
        if self.dry_run:
            raise SystemExit(0)
        if searches and config.hydra.sweeper.n_trials < 1:
            finish(sweep)  # Optuna's sweeper stumbles over a study without a trial that is complete
            raise SystemExit(0)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """End the program with what went wrong in a callback: Hydra would only warn of it and go on."""
    try:
        yield
    except (UserError, HydraException, OSError) as error:
        refuse(UserError(" ".join(str(error).split())))
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None


def planned(config: DictConfig) -> Plan:
    """What a sweep is going to do.

    Args:
        config: Of the sweep, with Hydra's node.
    """
    sweeper, task = config.hydra.sweeper, list(config.hydra.overrides.task)
    chosen = config.hydra.runtime.choices.get("hydra/sweeper", "basic")
    jobs = grid(task, dict(sweeper.get("params") or {})) if chosen == "basic" else ()
    program, *typed = json.loads(os.environ[TYPED])
    flags = config_flags(read_arguments(typed))
    return Plan(
        words=sweep_words([*task, *config.hydra.overrides.hydra], flags),
        program=program,
        objective=objective_of(config),
        jobs=jobs,
        trials=len(jobs) if jobs else int(sweeper.get("n_trials", 0)),
        at_once=_at_once(config, len(jobs) or int(sweeper.get("n_jobs", 1))),
        fixed=any(
            fixes_settings(word.partition("=")[2]) for word in task if word.startswith("sweep=")
        ),
    )


def divide(config: DictConfig, plan: Plan) -> int:
    """Let a launcher run no more jobs at once than there are, and are GPUs for, and say so.

    Args:
        config: Of the sweep, with Hydra's node, before its launcher is made.
        plan: Of the sweep.

    Returns:
        How many jobs run at once.

    Raises:
        UserError: When it is to run none.
    """
    if config.hydra.launcher.get("n_jobs") == 0:
        raise UserError("hydra.launcher.n_jobs=0: at least 1, or -1 for as many as there are cores")
    if plan.at_once == 1 or "n_jobs" not in config.hydra.launcher:
        return plan.at_once
    # A search asks for so many at a time.
    wanted = min(plan.at_once, len(plan.jobs) or config.hydra.sweeper.get("n_jobs") or plan.at_once)
    devices = count_devices(config.trainer.devices)
    gpus = gpus_for(config.trainer.accelerator, os.environ)
    possible = places(wanted, devices, gpus)
    with read_write(config):
        config.hydra.launcher.n_jobs = possible
    if possible < wanted:
        print(
            f"hydra.launcher.n_jobs={wanted}: {possible} at a time, for a job takes"
            f" trainer.devices={devices} and CUDA_VISIBLE_DEVICES or nvidia-smi tells of"
            f" {len(gpus or ())} GPUs"
        )
    return possible


def _refuse_tasks(config: DictConfig) -> None:
    """Each task would run the whole job, and they would wait for each other."""
    for key in ("tasks_per_node", "nodes"):
        number = int(config.hydra.launcher.get(key) or 1)
        if number > 1:
            raise UserError(
                f"hydra.launcher.{key}={number}: a job of a sweep is one task on one node, and"
                " starts the processes of trainer.devices by itself; leave the word out"
            )


def _at_once(config: DictConfig, jobs: int) -> int:
    """How many jobs run at the same time; joblib counts from the end of the cores, as `-1`.

    Args:
        config: Of the sweep, with Hydra's node.
        jobs: How many of them submitit is given.
    """
    launcher = config.hydra.launcher
    if "submitit_folder" in launcher:  # without a queue all of them
        return min(jobs, int(launcher.get("array_parallelism") or jobs))
    number = int(launcher.get("n_jobs") or 1)
    return number if number > 0 else max(1, cores() + 1 + number)


def _standing(plan: Plan, jobs: Sequence[Job], searches: bool) -> str:
    """How far a sweep is that was begun before."""
    ended = sum(job.state in SETTLED for job in jobs)
    if searches and ended > plan.trials:
        return (
            f"hydra.sweeper.n_trials={plan.trials}: {ended} jobs of this sweep have ended already,"
            " and no other is begun; a larger number goes on"
        )
    done = sum(job.state == "ok" for job in jobs)
    return f"going on with this sweep: {done} of {plan.trials} jobs are done"


def _refuse_another(sweep: SweepDirectory, plan: Plan) -> None:
    """A sweep may get more values; one about something else does not belong into its directory."""
    before = sweep.plan()
    if before is None or _kind(before) == _kind(plan):
        return
    raise UserError(
        f"{sweep.path}: there is another sweep in it ({before.program} -m"
        f" {' '.join(before.words)}); give another sweep_dir"
    )


def _kind(plan: Plan) -> tuple[str, tuple[str, ...], set[str]]:
    """The program, the configuration files and the keys of a sweep."""
    words = plan.jobs[0] if plan.jobs else plan.words
    keys = {word.lstrip("+").partition("=")[0] for word in job_overrides(words)}
    return plan.program, plan.flags, keys


def finish(sweep: SweepDirectory) -> None:
    """Write the sweep's page, say what came out, and end with status 1 if something went wrong.

    Raises:
        SystemExit: With status 1 when not every job is ok, or something cannot be written.
    """
    plan = sweep.plan()
    assert plan is not None
    jobs, is_written = bring_up_to_date(sweep, plan)
    print(ending(sweep, plan, jobs))
    print(f"sweep: {sweep.path}", flush=True)
    bad = sum(job.outcome is not None and job.state not in GOOD for job in jobs)
    left = sum(job.outcome is None for job in jobs)
    if bad or left:
        also = f", {left} did not run" if left else ""
        print(f"error: {bad} of {len(jobs)} jobs failed{also}", file=sys.stderr)
    if bad or left or not is_written:
        raise SystemExit(1)
