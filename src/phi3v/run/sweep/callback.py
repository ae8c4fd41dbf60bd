"""Hydra's callback around a sweep: one program at a time on it, its list of jobs, its answer.

In conf/train.yaml:  hydra.callbacks.sweep._target_: phi3v.run.sweep.callback.Sweep
"""

import contextlib
import sys
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from phi3v.config.front_door import refuse
from phi3v.config.saving import FILE as CONFIG
from phi3v.config.sweeps import grid, job_overrides, sweep_words
from phi3v.errors import UserError
from phi3v.run.lock import only_program_on
from phi3v.run.outcome import GOOD
from phi3v.run.sweep.directory import Job, Plan, SweepDirectory
from phi3v.run.sweep.places import cores
from phi3v.run.sweep.report import write_sweep_report
from phi3v.run.sweep.study import resume_study
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
        sweep = SweepDirectory(config.hydra.sweep.dir)
        try:
            plan = planned(config)
            if self.dry_run:
                print(listing(sweep, plan, waiting(plan)))
                raise SystemExit(0)
            if (sweep.path / CONFIG).exists():
                raise UserError(f"{sweep.path}: there is a run in it; give another sweep_dir")
            sweep.path.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(only_program_on(sweep.path))
            _refuse_another(sweep, plan)
            if config.hydra.runtime.choices.get("hydra/sweeper") == "optuna":
                resume_study(config, sweep)
        except (UserError, HydraException, OSError) as error:  # Hydra would only warn of them
            refuse(UserError(" ".join(str(error).split())))
        known = sweep.plan() is not None
        sweep.begin(plan)
        jobs = sweep.jobs()
        print(listing(sweep, plan, jobs), flush=True)
        if known:
            done = sum(job.state == "ok" for job in jobs)
            print(f"going on with this sweep: {done} of {plan.trials} jobs are done", flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Give the answer."""
        finish(SweepDirectory(config.hydra.sweep.dir))
        self._held.close()


def planned(config: DictConfig) -> Plan:
    """What a sweep is going to do.

    Args:
        config: Of the sweep, with Hydra's node.
    """
    sweeper, task = config.hydra.sweeper, list(config.hydra.overrides.task)
    chosen = config.hydra.runtime.choices.get("hydra/sweeper", "basic")
    jobs = grid(task, dict(sweeper.get("params") or {})) if chosen == "basic" else ()
    return Plan(
        words=sweep_words([*task, *config.hydra.overrides.hydra]),
        program=Path(sys.argv[0]).name,
        objective=str(config.objective),
        jobs=jobs,
        trials=len(jobs) if jobs else int(sweeper.get("n_trials", 0)),
        at_once=_at_once(config),
    )


def _at_once(config: DictConfig) -> int:
    """How many jobs run at the same time; joblib counts from the end of the cores, as `-1`."""
    number = int(config.hydra.launcher.get("n_jobs") or 1)
    return number if number > 0 else max(1, cores() + 1 + number)


def waiting(plan: Plan) -> list[Job]:
    """The jobs of a plan before any of them was begun."""
    return [Job(number, words, begun=False) for number, words in enumerate(plan.jobs)]


def _refuse_another(sweep: SweepDirectory, plan: Plan) -> None:
    """A sweep may get more values; one about something else does not belong into its directory."""
    before = sweep.plan()
    if before is None or _keys(before) == _keys(plan):
        return
    raise UserError(
        f"{sweep.path}: there is another sweep in it ({' '.join(before.words)}); give another"
        " sweep_dir"
    )


def _keys(plan: Plan) -> set[str]:
    words = plan.jobs[0] if plan.jobs else plan.words
    return {word.lstrip("+").partition("=")[0] for word in job_overrides(words)}


def finish(sweep: SweepDirectory) -> None:
    """Write the sweep's page, say what came out, and end with status 1 if something went wrong.

    Raises:
        SystemExit: With status 1 when not every job is ok.
    """
    plan = sweep.plan()
    assert plan is not None
    jobs = sweep.update()
    write_sweep_report(sweep, plan, jobs)
    print(ending(sweep, plan, jobs))
    print(f"sweep: {sweep.path}", flush=True)
    bad = sum(job.outcome is not None and job.state not in GOOD for job in jobs)
    left = sum(job.outcome is None for job in jobs)
    if bad or left:
        also = f", {left} did not run" if left else ""
        print(f"error: {bad} of {len(jobs)} jobs failed{also}", file=sys.stderr)
        raise SystemExit(1)
