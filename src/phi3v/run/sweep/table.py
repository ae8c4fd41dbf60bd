"""A sweep on the terminal: what there is to do, what is done, and what came of it.

print(listing(sweep, jobs))      # before the first job
print(progress(plan, jobs))      # after every job
print(ending(sweep, plan, jobs))
"""

import math
import shlex
import statistics
from collections.abc import Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from phi3v.evaluation.figures import write_figure, write_settings
from phi3v.run.outcome import GOOD
from phi3v.run.sweep.answer import Setting, answer
from phi3v.run.sweep.directory import Job, Plan, SweepDirectory, varying

WIDTH = 100
_MOST_ROWS = 40


def listing(sweep: SweepDirectory, plan: Plan, jobs: Sequence[Job]) -> str:
    """The jobs with their overrides and directories, before anything runs."""
    keys, shown = varying(jobs), settings(jobs)
    table = _new_table(["job", *keys, "directory"])
    for job in jobs[:_MOST_ROWS]:
        _add(table, str(job.number), *shown[job.number], str(sweep.path / str(job.number)))
    same = [word for word in _words(jobs) if word.partition("=")[0] not in keys]
    head = f"sweep of {_count(plan.trials)}, {_at_once(plan)}: {sweep.path}"
    if same:
        head += f"\nall with: {shlex.join(same)}"
    if not jobs:
        head += "\nthe jobs are chosen one after the other, by what the ones before them returned"
    return _printed(head, table if jobs else None, _left_out(jobs))


def progress(plan: Plan, jobs: Sequence[Job]) -> str:
    """All jobs with their state and figures, and how long the rest will take."""
    keys, shown = varying(jobs), settings(jobs)
    table = _new_table(["job", *keys, "status", _short(plan.objective), "time", "memory"])
    order = sorted(jobs, key=lambda job: _recency(job, jobs))[:_MOST_ROWS]
    for job in sorted(order, key=lambda job: job.number):
        outcome = job.outcome
        _add(
            table,
            str(job.number),
            *shown[job.number],
            job.state,
            write_figure(plan.objective, job.objective) if outcome else "",
            duration(outcome.seconds) if outcome and outcome.seconds else "",
            f"{outcome.peak_memory_gib:.1f} GiB" if outcome and outcome.peak_memory_gib else "",
        )
    return _printed("", table, f"{_left_out(jobs)}{_counts(plan, jobs)}")


def ending(sweep: SweepDirectory, plan: Plan, jobs: Sequence[Job]) -> str:
    """The best setting as a command line, what went wrong, and where everything lies."""
    lines = [
        f"job {job.number} {job.state.replace('_', ' ')}: {job.outcome.reason}"
        for job in jobs
        if job.outcome and job.state not in GOOD
    ]
    found = answer(jobs, plan.direction)
    if found:
        lines += _best(plan, found)
    else:
        lines.append("no job came to a figure")
    lines += ["", f"report: {sweep.path / 'sweep.html'}", f"table:  {sweep.path / 'sweep.csv'}"]
    return "\n".join(lines)


def settings(jobs: Sequence[Job]) -> dict[int, list[str]]:
    """What tables show of the keys in which jobs differ: by job, the values in their order."""
    keys = varying(jobs)
    shown = {key: write_settings(job.values.get(key, "") for job in jobs) for key in keys}
    return {job.number: [shown[key][job.values.get(key, "")] for key in keys] for job in jobs}


def _best(plan: Plan, found: Sequence[Setting]) -> list[str]:
    best = found[0]
    figure = write_figure(plan.objective, best.mean)
    if best.spread is not None:
        figure += (
            f" ± {write_figure(plan.objective, best.spread)} over {len(best.objectives)} seeds"
        )
    command = best.command(plan)
    lines = [f"best {plan.objective}: {figure} ({_jobs(best)})", f"  {command}"]
    rivals = [one for one in found[1:] if one.is_sound and _is_close(best, one)]
    if rivals:
        lines.append(
            f"{len(rivals)} other setting{'s' * (len(rivals) > 1)} lie{'s' * (len(rivals) == 1)}"
            " within the spread of the seeds"
        )
    return lines


def _is_close(best: Setting, other: Setting) -> bool:
    """Whether the difference is less than the larger standard deviation over seeds."""
    spreads = [one.spread for one in (best, other) if one.spread is not None]
    return bool(spreads) and abs(best.mean - other.mean) < max(spreads)


def _jobs(setting: Setting) -> str:
    numbers = [str(job.number) for job in setting.jobs if job.objective is not None]
    return f"job{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


def _counts(plan: Plan, jobs: Sequence[Job]) -> str:
    done = [job for job in jobs if job.outcome]
    running = sum(job.state == "running" for job in jobs)
    total = max(plan.trials, len(jobs))
    left = total - len(done)
    text = f"{len(done)} of {total} done"
    bad = sum(job.state not in GOOD for job in done)
    text += f" ({bad} not ok)" if bad else ""
    text += f", {running} running" if running else ""
    well = [job.outcome for job in done if job.outcome and job.state == "ok"]
    times = [outcome.seconds for outcome in well if outcome.seconds]
    if left and times:
        rest = statistics.fmean(times) * math.ceil(left / plan.at_once)
        text += f", about {duration(rest)} left"
    return text


def _recency(job: Job, jobs: Sequence[Job]) -> int:
    """What is running comes first, then what has ended lately, then what waits."""
    last = max((other.number for other in jobs if other.begun), default=0)
    return abs(job.number - last)


def _words(jobs: Sequence[Job]) -> list[str]:
    return list(jobs[0].overrides) if jobs else []


def _at_once(plan: Plan) -> str:
    return "one at a time" if plan.at_once == 1 else f"{plan.at_once} at a time"


def _count(number: int) -> str:
    return f"{number} job{'s' * (number != 1)}"


def _left_out(jobs: Sequence[Job]) -> str:
    more = len(jobs) - _MOST_ROWS
    return f"... and {more} more\n" if more > 0 else ""


def _short(objective: str) -> str:
    return objective.partition("/")[2] or objective


def duration(seconds: float) -> str:
    """Seconds for people: "7 s", "3 min 05 s", "2 h 09 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _new_table(names: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))  # brackets in overrides are no markup


def _printed(head: str, table: Table | None, foot: str) -> str:
    text = StringIO()
    console = Console(file=text, width=WIDTH)
    if head:
        console.print(head, highlight=False, soft_wrap=True, markup=False)
    if table is not None:
        console.print(table)
    if foot:
        console.print(foot.rstrip(), highlight=False, soft_wrap=True, markup=False)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())
