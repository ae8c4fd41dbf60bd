"""sweep.html: one self-contained page of a sweep's jobs, curves, overrides and answer.

write_sweep_report(sweep, plan, jobs)
"""

import sys
from collections.abc import Sequence
from functools import partial
from html import escape

from phi3v.errors import UserError
from phi3v.evaluation.figures import metric_title, write_figure
from phi3v.evaluation.page import page, points, tick
from phi3v.evaluation.sweep_charts import Curve, Way, curves, parallel_coordinates
from phi3v.files import write_whole
from phi3v.run.directory import RunDirectory
from phi3v.run.outcome import GOOD
from phi3v.run.sweep.answer import Setting, answer
from phi3v.run.sweep.directory import REPORT, Job, Plan, SweepDirectory, values_of, varying
from phi3v.run.sweep.table import duration, settings

_MOST_AXES = 8


def bring_up_to_date(sweep: SweepDirectory, plan: Plan) -> tuple[list[Job], bool]:
    """Write the sweep's files anew; what keeps them from it is told and ends nothing.

    All that they say is in the jobs' own directories, so the next time makes up for it.

    Returns:
        All jobs, and whether all files are written.
    """
    try:
        with sweep.alone():
            jobs = sweep.update()
            write_sweep_report(sweep, plan, jobs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return sweep.jobs(), False
    return jobs, True


def write_sweep_report(sweep: SweepDirectory, plan: Plan, jobs: Sequence[Job]) -> None:
    """Write the page, as far as the sweep has come.

    Raises:
        UserError: When it cannot be written, as on a full disk.
    """
    found = answer(jobs, plan.direction)
    sections = [
        _head(sweep, plan, jobs, found),
        _jobs(sweep, plan, jobs),
        _settings(plan, found, jobs),
        _curves(sweep, plan, jobs),
        _overrides(plan, jobs),
    ]
    write_whole(sweep.path / REPORT, page(f"Sweep {sweep.path.name}", sections))


def _head(sweep: SweepDirectory, plan: Plan, jobs: Sequence[Job], found: Sequence[Setting]) -> str:
    ended = [job for job in jobs if job.outcome]
    bad = sum(job.state not in GOOD for job in ended)
    tiles = [("jobs done", f"{len(ended)} of {max(plan.trials, len(jobs))}")]
    tiles += [("not ok", str(bad))] if bad else []
    seconds = sum(job.outcome.seconds or 0.0 for job in ended if job.outcome)
    tiles += [("time of all jobs", duration(seconds))] if seconds else []
    answered = "<p>No job has come to a figure yet.</p>"
    if found:
        best = found[0]
        tiles.insert(0, (f"best {plan.objective}", _figure(plan, best)))
        command = escape(best.command(plan))
        answered = f"<p>The best setting, as a command:</p><pre>{command}</pre>"
    shown = "".join(
        f'<div class="tile"><b>{value}</b>{escape(name)}</div>' for name, value in tiles
    )
    return (
        f'<header><div class="soft">{escape(" ".join(plan.words))}</div>'
        f"<h1>Sweep {escape(sweep.path.name)}</h1>"
        f'<div class="verdict{" looks" if found else ""}">{answered}</div>'
        f'<div class="tiles">{shown}</div></header>'
    )


def _figure(plan: Plan, setting: Setting) -> str:
    figure = write_figure(plan.objective, setting.mean)
    if setting.spread is not None:
        figure += f" ± {write_figure(plan.objective, setting.spread)}"
    return figure


def _jobs(sweep: SweepDirectory, plan: Plan, jobs: Sequence[Job]) -> str:
    keys = varying(jobs)
    arrow = {"min": "↓", "max": "↑"}[plan.direction]
    name = f"{metric_title(plan.objective)}&nbsp;{arrow}"
    heads = ["job", *map(escape, keys), "status", name, "time", "memory", ""]
    best = next((one.jobs for one in answer(jobs, plan.direction)), ())
    shown = settings(jobs)
    rows = "".join(_job_row(sweep, plan, job, shown[job.number], job in best) for job in jobs)
    top = "".join(f"<th>{head}</th>" for head in heads)
    return (
        "<h2>Jobs</h2><p class='note'>A job's number leads to its own report.</p>"
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def _job_row(
    sweep: SweepDirectory, plan: Plan, job: Job, values: Sequence[str], is_best: bool
) -> str:
    number = str(job.number)
    if RunDirectory(sweep.path / number).report.is_file():
        number = f'<a href="{number}/report.html">{number}</a>'
    outcome = job.outcome
    figures = [
        write_figure(plan.objective, job.objective) if outcome else "",
        duration(outcome.seconds) if outcome and outcome.seconds else "",
        f"{outcome.peak_memory_gib:.1f} GiB" if outcome and outcome.peak_memory_gib else "",
    ]
    reason = escape(outcome.reason) if outcome else ""
    cells = [*map(escape, values), job.state.replace("_", " "), *figures]
    own = ' class="own"' if is_best else ""
    return (
        f"<tr{own}><th>{number}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}"
        f'<td class="reason">{reason}</td></tr>'
    )


def _settings(plan: Plan, found: Sequence[Setting], jobs: Sequence[Job]) -> str:
    """Means over seeds, where there are several."""
    if not any(setting.seeds > 1 for setting in found):
        return ""
    rows = "".join(
        f"<tr{' class=own' if place == 0 else ''}><th>{escape(_differences(setting, jobs))}</th>"
        f"<td>{_figure(plan, setting)}</td><td>{len(setting.objectives)} of {setting.seeds}"
        "</td></tr>"
        for place, setting in enumerate(found)
    )
    return (
        "<h2>Settings</h2><p class='note'>Mean and standard deviation over the seeds; a setting of "
        'which a seed failed stands behind the others.</p><div class="scroll snug"><table><thead>'
        f"<tr><th></th><th>{metric_title(plan.objective)}</th><th>seeds</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _differences(setting: Setting, jobs: Sequence[Job]) -> str:
    """The words by which a setting is not another one."""
    shown = zip(varying(jobs), settings(jobs)[setting.jobs[0].number], strict=True)
    return " ".join(f"{key}={value}" for key, value in shown if key in values_of(setting.overrides))


def _curves(sweep: SweepDirectory, plan: Plan, jobs: Sequence[Job]) -> str:
    histories = {
        job: RunDirectory(sweep.path / str(job.number)).read_history() for job in jobs if job.begun
    }
    ranks, names = _ranks(plan, jobs), _names(jobs)
    drawn = []
    for name in dict.fromkeys([plan.objective, "val/loss", "train/loss"]):
        lines = [
            Curve(names[job.number], points(rows, name), ranks.get(job.number, 1.0))
            for job, rows in histories.items()
        ]
        chart = curves(lines, name, partial(tick, name))
        if chart:
            drawn.append(f"<figure><h3>{escape(name)}</h3>{chart}</figure>")
    if not drawn:
        return ""
    return (
        "<h2>Curves</h2><p class='note'>The better a job, the bluer its line; the best is thick. "
        f'Point at a line to see whose it is.</p><div class="charts">{"".join(drawn)}</div>'
    )


def _overrides(plan: Plan, jobs: Sequence[Job]) -> str:
    keys = varying(jobs)[:_MOST_AXES]
    known = [job for job in jobs if job.objective is not None]
    if not keys or len(known) < 2:
        return ""
    ranks = _ranks(plan, jobs)
    ways = [
        Way(
            f"job {job.number}",
            [job.values.get(key, "") for key in keys],
            job.objective or 0.0,
            ranks[job.number],
        )
        for job in known
    ]
    chart = parallel_coordinates(
        keys, ways, plan.objective, lambda value: write_figure(plan.objective, value)
    )
    return (
        "<h2>Overrides</h2><p class='note'>A line for each job, through its overrides to its "
        f'objective.</p><div class="scroll"><figure class="broad">{chart}</figure></div>'
    )


def _ranks(plan: Plan, jobs: Sequence[Job]) -> dict[int, float]:
    """0 for the best job that came to a figure, 1 for the worst."""
    sign = 1 if plan.direction == "min" else -1
    known = {job.number: sign * job.objective for job in jobs if job.objective is not None}
    levels = sorted(set(known.values()))  # of equals none is better
    return {number: levels.index(one) / max(1, len(levels) - 1) for number, one in known.items()}


def _names(jobs: Sequence[Job]) -> dict[int, str]:
    """What jobs are called beside their curves, by number."""
    keys = varying(jobs)
    return {
        number: " ".join([f"job {number}", *map("=".join, zip(keys, values, strict=True))])
        for number, values in settings(jobs).items()
    }
