"""What a sweep found: settings with their seeds taken together, the best of them first.

best = answer(jobs, "min")[0]
best.mean, best.spread, best.command(plan)
"""

import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from phi3v.run.sweep.directory import Job, Plan

#: Keys that repeat a setting instead of changing it.
SEEDS = ("seed",)


@dataclass(frozen=True)
class Setting:
    """One setting of a sweep.

    Attributes:
        overrides: What makes it, without seeds where there are several.
        jobs: Its jobs that were begun, one or more for each seed.
    """

    overrides: tuple[str, ...]
    jobs: tuple[Job, ...]

    @property
    def objectives(self) -> list[float]:
        """What came of each seed; the mean where one was given more than once."""
        found: dict[tuple[str | None, ...], list[float]] = {}
        for job in self.jobs:
            if job.objective is not None:
                found.setdefault(_seed(job), []).append(job.objective)
        return [statistics.fmean(group) for group in found.values()]

    @property
    def seeds(self) -> int:
        """How many seeds it was begun with."""
        return len({_seed(job) for job in self.jobs})

    @property
    def mean(self) -> float:
        """Mean objective over the seeds."""
        return statistics.fmean(self.objectives)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the objective over the seeds; None of a single one."""
        return statistics.stdev(self.objectives) if len(self.objectives) > 1 else None

    @property
    def is_sound(self) -> bool:
        """Whether each of its jobs that has ended did so with a figure, and by itself."""
        return all(job.state == "ok" for job in self.jobs if job.outcome)

    def command(self, plan: Plan) -> str:
        """The command line that runs this setting alone.

        A sweep that sets something for all its jobs is named in it, as in a job's own command.

        Args:
            plan: Of the sweep.
        """
        own = [word for word in self.overrides if plan.fixed or not word.startswith("sweep=")]
        alone = ["hydra.mode=RUN"] if plan.fixed else []  # else sweep=NAME is for -m
        return shlex.join(["python", plan.program, *plan.flags, *own, *alone])


def answer(jobs: Sequence[Job], direction: str) -> list[Setting]:
    """The settings of which something is known, the best one first.

    A setting that failed, diverged or was pruned with some of its seeds comes behind all that
    never did: its mean leaves out what went wrong.

    Args:
        jobs: Of the sweep.
        direction: "min" or "max".
    """
    repeated = [key for key in SEEDS if len({job.values.get(key) for job in jobs}) > 1]
    found: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if job.begun:
            found.setdefault(_without(job.overrides, repeated), []).append(job)
    settings = [Setting(overrides, tuple(group)) for overrides, group in found.items()]
    known = [setting for setting in settings if setting.objectives]
    sign = 1 if direction == "min" else -1
    return sorted(known, key=lambda setting: (not setting.is_sound, sign * setting.mean))


def _seed(job: Job) -> tuple[str | None, ...]:
    return tuple(job.values.get(key) for key in SEEDS)


def _without(overrides: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in overrides if word.lstrip("+").partition("=")[0] not in keys)
