"""The directory of a sweep: its plan, its jobs, and what came of them.

    sweep = SweepDirectory("runs/lora_r16/2026-01-01_12-00-00-000000_sweep")
    sweep.begin(Plan(command, objective, overrides of each job))
    sweep.begin_job(sweep.path / "0")
    sweep.update()                       # sweep.json and sweep.csv say what there is by now

Each job's outcome lies in its own directory, written by the job; all that stands here is read from
those, so a sweep that was killed at any moment has lost nothing.
"""

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from phi3v.config.sweeps import FILE, job_folders, job_overrides
from phi3v.errors import UserError
from phi3v.files import write_whole
from phi3v.run.lock import held_with_heirs
from phi3v.run.outcome import FILE as OUTCOME
from phi3v.run.outcome import Outcome
from phi3v.task import direction

TABLE = "sweep.csv"
REPORT = "sweep.html"
_BEGUN = "begun"


@dataclass(frozen=True)
class Plan:
    """What a sweep is going to do.

    Attributes:
        words: The words of its command line, by which the same command finds it again; flags
            that choose other configuration files come first.
        program: The script, "train.py" or "eval.py".
        objective: The name of what its jobs return.
        jobs: The overrides of each job; of a search that chooses them as it goes, none.
        trials: How many jobs there will be.
        at_once: How many of them run at the same time.
        fixed: Whether `sweep=NAME` sets more for its jobs than what they choose from.
    """

    words: tuple[str, ...]
    program: str
    objective: str
    jobs: tuple[tuple[str, ...], ...]
    trials: int
    at_once: int = 1
    fixed: bool = False

    @property
    def direction(self) -> str:
        """Whether less of the objective is better ("min") or more ("max")."""
        return direction(self.objective)

    @property
    def flags(self) -> tuple[str, ...]:
        """The words that are flags."""
        return tuple(word for word in self.words if word.startswith("--"))


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        number: Its number, which is also the name of its directory.
        overrides: Its own, with those that all jobs have.
        outcome: How it ended; None of one that has not.
        begun: Whether it was started.
    """

    number: int
    overrides: tuple[str, ...]
    outcome: Outcome | None = None
    begun: bool = True

    @property
    def state(self) -> str:
        """How it ended, or "running", or "waiting"."""
        if self.outcome:
            return self.outcome.status
        return "running" if self.begun else "waiting"

    @property
    def objective(self) -> float | None:
        """What it returned."""
        return self.outcome.objective if self.outcome else None

    @property
    def values(self) -> dict[str, str]:
        """Its overrides by key."""
        return values_of(self.overrides)


class SweepDirectory:
    """Names the files of a sweep and keeps them up to date."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path / f"{FILE}.lock")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from writing the files of this sweep, whose jobs may end at once."""
        with self._lock:
            yield

    def begin(self, plan: Plan) -> None:
        """Write down what is going to happen, and which jobs an earlier end left behind.

        Raises:
            UserError: When something cannot be written, as on a full disk; here and below.
        """
        write_whole(self.path / FILE, json.dumps({"plan": asdict(plan)}))
        for job in self.jobs():
            if job.state == "running":
                _leave_behind(self.path / str(job.number))
        self.update()

    def plan(self) -> Plan | None:
        """What was going to happen; None where no sweep was begun yet.

        Raises:
            UserError: When nobody can tell any more.
        """
        file = self.path / FILE
        try:
            known = json.loads(file.read_text(encoding="utf-8"))["plan"]
            if "jobs" not in known:  # a directory that was only claimed
                return None
            known["jobs"] = tuple(tuple(words) for words in known["jobs"])
            known["words"] = tuple(known["words"])
            return Plan(**known)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file}: it cannot be read ({error}); remove it, and with sweep_dir={self.path}"
                " the same command goes on with the jobs that lie there"
            ) from None

    def begin_job(self, folder: Path) -> None:
        """Note that a job is about to run, which has a directory already."""
        earlier = Outcome.read(folder)
        spent = self.seconds_before(folder) + (earlier.seconds or 0.0 if earlier else 0.0)
        write_whole(folder / _BEGUN, str(spent))
        (folder / OUTCOME).unlink(missing_ok=True)
        self.update()

    def seconds_before(self, folder: Path) -> float:
        """Seconds that the job in a directory took before it was begun the last time."""
        file = folder / _BEGUN
        return float(file.read_text(encoding="utf-8") or 0) if file.exists() else 0.0

    def is_begun(self, folder: Path) -> bool:
        """Whether the job in a directory was ever begun."""
        return (folder / _BEGUN).exists()

    def jobs(self, plan: Plan | None = None) -> list[Job]:
        """All jobs by number, also those that wait.

        Args:
            plan: What is going to happen; else what is written down.
        """
        found = {
            number: Job(
                number,
                tuple(overrides),
                self._outcome(self.path / str(number)),
                self.is_begun(self.path / str(number)),
            )
            for number, overrides in job_folders(self.path).items()
        }
        known = Counter(job.overrides for job in found.values())
        plan = plan or self.plan()
        for place, words in enumerate(plan.jobs if plan else ()):
            overrides = tuple(job_overrides(words))
            known[overrides] -= 1
            if known[overrides] < 0:
                number = place if place not in found else max(found) + 1
                found[number] = Job(number, overrides, begun=False)
        return [found[number] for number in sorted(found)]

    def _outcome(self, folder: Path) -> Outcome | None:
        """How a job ended, with the seconds of all the times that it was begun.

        outcome.json has those of the last time alone: the job itself has written it.
        """
        outcome, before = Outcome.read(folder), self.seconds_before(folder)
        if outcome is None or not before:
            return outcome
        return replace(outcome, seconds=round((outcome.seconds or 0.0) + before, 1))

    def update(self) -> list[Job]:
        """Write sweep.json and sweep.csv anew.

        Returns:
            All jobs.
        """
        with self.alone():
            plan, jobs = self.plan(), self.jobs()
            assert plan is not None
            rows = [_row(job) for job in jobs]
            record = {"plan": asdict(plan), "direction": plan.direction, "jobs": rows}
            write_whole(self.path / FILE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
            write_whole(self.path / TABLE, _table(jobs))
        return jobs


def _leave_behind(folder: Path) -> None:
    """Note of a job that its sweep ended before it, unless it is at work or has just ended."""
    with contextlib.suppress(BlockingIOError), held_with_heirs(folder, wait=False):
        if Outcome.read(folder) is None:
            Outcome("interrupted", reason="the sweep ended before it").write(folder)


def values_of(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides by key, without the signs in front of a key."""
    pairs = (word.lstrip("+").partition("=") for word in overrides)
    return {key: value for key, _, value in pairs}


def varying(jobs: Sequence[Job]) -> list[str]:
    """The keys in which jobs differ, in the order of the command line."""
    keys = dict.fromkeys(key for job in jobs for key in job.values)
    return [key for key in keys if len({job.values.get(key) for job in jobs}) > 1]


def _row(job: Job) -> dict[str, Any]:
    outcome = asdict(job.outcome) if job.outcome else {}
    return {"job": job.number, "status": job.state, **_figures(outcome), "overrides": job.values}


def _figures(outcome: dict[str, Any]) -> dict[str, Any]:
    names = ("objective", "seconds", "peak_memory_gib", "reason")
    return {name: outcome.get(name) for name in names}


def _table(jobs: Sequence[Job]) -> str:
    keys = list(dict.fromkeys(key for job in jobs for key in job.values))
    rows = [_row(job) for job in jobs]
    names = ["job", "status", "objective", "seconds", "peak_memory_gib", "reason"]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *keys])
    for row in rows:
        cells = [row[name] for name in names] + [row["overrides"].get(key) for key in keys]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()
