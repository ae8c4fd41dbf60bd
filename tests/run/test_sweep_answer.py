"""What a sweep says and shows: the answer, the tables, the page."""

import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest

from phi3v.evaluation.sweep_charts import Curve, curves
from phi3v.run.outcome import Outcome
from phi3v.run.sweep.answer import answer
from phi3v.run.sweep.directory import Job, Plan, SweepDirectory, varying
from phi3v.run.sweep.report import write_sweep_report
from phi3v.run.sweep.table import duration, ending, listing, progress


def job(number: int, objective: float | None = None, status: str = "ok", **values: object) -> Job:
    words = tuple(f"{key}={value}" for key, value in values.items())
    return Job(number, words, Outcome(status, objective, seconds=60.0, peak_memory_gib=1.5))


def test_seeds_are_taken_together_and_failures_come_last() -> None:
    jobs = [
        job(0, 0.10, lr=1, seed=1), job(1, 0.20, lr=1, seed=2),
        job(2, 0.05, lr=2, seed=1), job(3, None, "diverged", lr=2, seed=2),
        job(4, 0.30, lr=3, seed=1), job(5, 0.30, lr=3, seed=2),
    ]  # fmt: skip
    found = answer(jobs, "min")
    assert [one.overrides for one in found] == [("lr=1",), ("lr=3",), ("lr=2",)]
    assert found[0].mean == pytest.approx(0.15)
    assert found[0].spread == pytest.approx(0.05 * 2**0.5)
    assert answer(jobs, "max")[0].overrides == ("lr=3",)
    named = answer([job(0, 0.1, sweep="rank_lr", lr=1)], "min")[0]
    assert named.command(plan([])) == "python train.py lr=1"
    fixed = named.command(replace(plan([]), fixed=True))
    assert fixed == "python train.py sweep=rank_lr lr=1 hydra.mode=RUN"
    alone = answer([job(0, 0.1, lr=1, seed=3), job(1, 0.2, lr=2, seed=3)], "min")[0]
    assert alone.command(plan([])) == "python train.py lr=1 seed=3"


def test_a_seed_that_is_given_twice_is_one_seed(tmp_path: Path) -> None:
    [one] = answer([job(0, 0.1, lr=1, seed=7), job(1, 0.1, lr=1, seed=7)], "min")
    assert (one.objectives, one.spread, one.seeds) == ([0.1], None, 1)
    jobs = [
        job(0, 0.1, lr=1, seed=7), job(1, 0.3, lr=1, seed=7), job(2, 0.4, lr=1, seed=8),
        job(3, 0.9, lr=2, seed=7), job(4, None, "failed", lr=2, seed=7),
    ]  # fmt: skip
    best, other = answer(jobs, "min")
    assert best.objectives == pytest.approx([0.2, 0.4])
    assert best.spread == pytest.approx(0.2 / 2**0.5)
    assert (best.seeds, other.seeds, other.spread) == (2, 1, None)
    sweep = SweepDirectory(tmp_path)
    assert "± 14.1 % over 2 seeds (jobs 0, 1, 2)" in ending(sweep, plan(jobs), jobs)
    write_sweep_report(sweep, plan(jobs), jobs)
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert "<td>2 of 2</td>" in page
    assert "<td>1 of 1</td>" in page


def test_long_numbers_are_short_in_tables_and_whole_where_they_are_used(tmp_path: Path) -> None:
    sweep, rates = SweepDirectory(tmp_path), ["0.0012345678901234567", "0.0023456789012345678"]
    jobs = [job(n, 0.2 - n / 10, rate=rate, seed=123456) for n, rate in enumerate(rates)]
    jobs += [job(2, 0.4, rate="2e-3", seed=123457), job(3, 0.1, rate=rates[1], seed=123457)]
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "metrics.csv").write_text("step,val/price/mape\n1,0.3\n2,0.2\n")
    tables = [listing(sweep, plan(jobs), jobs), progress(plan(jobs), jobs)]
    write_sweep_report(sweep, plan(jobs), jobs)
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    command = f"python train.py rate={rates[1]}"
    assert page.count(rates[1]) == 1  # in the command alone
    assert command in page
    assert command in ending(sweep, plan(jobs), jobs)
    for text in (*tables, page):
        for shown in ("0.001235", "0.002346", "2e-3", "123456"):
            assert shown in text
        assert rates[0] not in text
    assert "job 1 rate=0.002346 seed=123456" in page
    assert "<th>rate=0.002346</th>" in page


def plan(jobs: list[Job], **changes: object) -> Plan:
    settings = {"words": ("lr=1,2",), "program": "train.py", "objective": "val/price/mape"}
    return Plan(**settings, jobs=tuple(one.overrides for one in jobs), trials=len(jobs), **changes)


def test_a_job_that_goes_on_has_taken_the_time_before_too(tmp_path: Path) -> None:
    sweep, folder = SweepDirectory(tmp_path), tmp_path / "0"
    folder.mkdir()
    sweep.begin(plan([]))
    for spent in (0.0, 60.0, 120.0):
        sweep.begin_job(folder)
        assert sweep.seconds_before(folder) == spent
        Outcome("interrupted", seconds=60.0).write(folder)


def test_a_job_that_was_begun_again_has_taken_the_time_of_all_times(tmp_path: Path) -> None:
    sweep, folder = SweepDirectory(tmp_path), tmp_path / "0"
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"overrides": ["lr=1"]}))
    sweep.begin(plan([]))
    for seconds, together in ((60.0, 60.0), (None, 60.0), (30.0, 90.0), (10.0, 100.0)):
        sweep.begin_job(folder)
        Outcome("failed", seconds=seconds).write(folder)  # as the job itself does
        [known] = sweep.update()
        assert known.outcome.seconds == together
        assert json.loads((tmp_path / "sweep.json").read_text())["jobs"][0]["seconds"] == together
    assert Outcome.read(folder).seconds == 10.0


def test_the_best_setting_is_told_with_the_flags_of_its_sweep(tmp_path: Path) -> None:
    jobs = [job(0, 0.1, lr=1), job(1, 0.2, lr=2)]
    mine = replace(plan(jobs), words=("--config-dir=my files", "lr=1,2"))
    command = "python train.py '--config-dir=my files' lr=1"
    assert f"\n  {command}\n" in ending(SweepDirectory(tmp_path), mine, jobs)
    write_sweep_report(SweepDirectory(tmp_path), mine, jobs)
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert f"<pre>{escape(command)}</pre>" in page


def test_the_table_says_what_is_done_running_and_left() -> None:
    jobs = [
        job(0, 0.125, lr=1, scope="[a,b]"),
        Job(1, ("lr=2", "scope=[a,b]")),
        Job(2, ("lr=3", "scope=[a,b]"), begun=False),
        Job(3, ("lr=4", "scope=[b]"), begun=False),
    ]
    text = progress(plan(jobs, at_once=2), jobs)
    assert "12.5 %" in text
    assert "1.5 GiB" in text
    assert "[a,b]" in text
    assert "1 of 4 done, 1 running, about 2 min 00 s left" in text
    assert [line.split()[3] for line in text.splitlines()[1:5]] == [
        *("ok", "running", "waiting", "waiting")
    ]
    many = [Job(number, (f"lr={number}",), begun=number < 70) for number in range(100)]
    assert "... and 60 more" in progress(plan(many), many)
    assert "\n69" in progress(plan(many), many)


def test_durations_are_written_for_people() -> None:
    assert [duration(s) for s in (7, 185, 7740)] == ["7 s", "3 min 05 s", "2 h 09 min"]


def test_the_ending_says_when_seeds_differ_more_than_settings(tmp_path: Path) -> None:
    jobs = [
        job(0, 0.10, lr=1, seed=1), job(1, 0.20, lr=1, seed=2),
        job(2, 0.14, lr=2, seed=1), job(3, 0.18, lr=2, seed=2),
        job(4, 0.90, lr=3, seed=1), job(5, 0.91, lr=3, seed=2),
    ]  # fmt: skip
    text = ending(SweepDirectory(tmp_path), plan(jobs), jobs)
    assert "1 other setting lies within the spread of the seeds" in text
    assert "no job came to a figure" in ending(SweepDirectory(tmp_path), plan([]), [])


def test_the_listing_tells_constant_words_apart(tmp_path: Path) -> None:
    jobs = [Job(i, (f"lr={i}", "name=mine"), begun=False) for i in range(2)]
    text = listing(SweepDirectory(tmp_path), plan(jobs), jobs)
    assert "all with: name=mine" in text
    assert varying(jobs) == ["lr"]


def test_the_page_shows_jobs_curves_and_overrides(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "some_sweep")
    jobs = [
        job(0, 0.2, lr="1e-3", scope="[a,b]"), job(1, 0.1, lr="1e-2", scope="[a]"),
        job(2, None, "failed", lr="<b>", scope="[a]"), Job(3, ("lr=1", "scope=[a]"), begun=False),
    ]  # fmt: skip
    for one in jobs[:2]:
        run = sweep.path / str(one.number)
        run.mkdir(parents=True)
        rows = [f"{step},{one.objective + 1 / step}" for step in range(1, 5)]
        (run / "metrics.csv").write_text("\n".join(["step,val/price/mape", *rows]))
        (run / "report.html").touch()
    write_sweep_report(sweep, plan(jobs), jobs)
    page = (sweep.path / "sweep.html").read_text(encoding="utf-8")
    assert "python train.py lr=1e-2 &#x27;scope=[a]&#x27;" in page
    assert 'href="1/report.html"' in page
    assert 'href="2/report.html"' not in page
    assert "&lt;b&gt;" in page
    assert "<b>lr" not in page
    assert page.count("<polyline") == 2 + 2  # a curve and a way through the overrides each
    assert "http://" not in page
    assert "https://" not in page


def test_a_value_that_ran_away_flattens_no_curve() -> None:
    tame = Curve("job 0", [(step, 1 / step) for step in range(1, 11)], 0.0)
    wild = Curve("job 1", [(1, 1e5), (2, 0.7), (3, 0.8)], 1.0)
    heights = [
        [float(point.split(",")[1]) for point in line.split()]
        for line in re.findall(r'points="([^"]+)"', curves([tame, wild], "mape", str))
    ]
    assert min(min(line) for line in heights) >= 0  # inside the picture
    best = heights[-1]  # which is drawn last
    assert max(best) - min(best) > 50
