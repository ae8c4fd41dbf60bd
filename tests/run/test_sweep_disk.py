"""A disk that is full while a sweep runs: one line says so, and nothing is taken for done."""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from phi3v.config.sweeps import job_folder
from phi3v.errors import UserError
from phi3v.run.directory import RunDirectory
from phi3v.run.sweep import report
from phi3v.run.sweep.directory import Plan, SweepDirectory
from phi3v.run.sweep.report import bring_up_to_date

from .conftest import Start, jobs_of

PLAN = Plan(("lr=1,2",), "train.py", "val/price/mape", (("lr=1",), ("lr=2",)), 2)
FULL = Path("/dev/full")


def errors(text: str) -> list[str]:
    assert "Traceback" not in text
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("name", ["sweep.json", "sweep.csv", "sweep.html"])
def test_what_cannot_be_written_is_told_once_and_made_up_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    sweep = SweepDirectory(tmp_path)
    sweep.begin(PLAN)
    (tmp_path / f"{name}.part").symlink_to(FULL)
    jobs, is_written = bring_up_to_date(sweep, PLAN)
    assert [job.overrides for job in jobs] == [("lr=1",), ("lr=2",)]
    assert not is_written
    (line,) = errors(capsys.readouterr().err)
    assert line.startswith(f"error: {tmp_path / name}: it cannot be written, ")
    assert "No space left on device" in line
    assert "a sweep with the same command" in line
    assert bring_up_to_date(sweep, PLAN)[1]
    assert (tmp_path / name).is_file()


def test_rows_of_a_job_that_a_full_disk_has_torn_are_left_out_of_the_page(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path)
    sweep.begin(PLAN)
    run = RunDirectory(tmp_path / job_folder(tmp_path, 0, ["lr=1"]))
    sweep.begin_job(run.path)
    rows = ["step,epoch,val/price/mape", "2,0,0.5", "4,0,0.46,1,0.3", "nothing,1,1", "6,1,1e-"]
    run.metrics_by_step.write_text("\n".join(rows))
    assert run.read_history() == [
        {"step": 2, "epoch": 0, "val/price/mape": 0.5},
        {"step": 6, "epoch": 1},
    ]
    assert bring_up_to_date(sweep, PLAN)[1]


def test_jobs_that_end_at_once_write_the_page_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SweepDirectory(tmp_path).begin(PLAN)
    seen: list[str] = []

    def write(*_: object) -> None:
        seen.append("begun")
        time.sleep(0.1)
        seen.append("written")

    monkeypatch.setattr(report, "write_sweep_report", write)
    ended = [
        Thread(target=bring_up_to_date, args=(SweepDirectory(tmp_path), PLAN)) for _ in range(2)
    ]
    for job in ended:
        job.start()
    for job in ended:
        job.join()
    assert seen == ["begun", "written"] * 2


def test_a_sweep_that_cannot_be_written_down_is_not_begun(tmp_path: Path) -> None:
    (tmp_path / "sweep.json.part").symlink_to(FULL)
    with pytest.raises(UserError, match=r"sweep\.json: it cannot be written"):
        SweepDirectory(tmp_path).begin(PLAN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_job_runs_where_the_plan_cannot_be_written(start: Start, here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "sweep.json.part").symlink_to(FULL)
    done = start("-m", "adapter.r=4,8", "sweep_dir=mine")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(errors(done.stderr)) == len(done.stderr.splitlines()) == 1
    assert not (here / "mine" / "0").exists()


@pytest.mark.slow
def test_a_page_that_cannot_be_written_ends_no_sweep(
    start: Start, here: Path, begins_with: Callable[..., None]
) -> None:
    begins_with(
        "if cfg.adapter.r == 4:",
        "    (run.parent / 'sweep.html.part').symlink_to('/dev/full')",
    )
    done = start("-m", "adapter.r=4,8", "sweep_dir=mine")
    assert done.returncode == 0, done.stderr
    (line,) = errors(done.stderr)
    assert line.startswith("error: mine/sweep.html: it cannot be written")
    assert [job["status"] for job in jobs_of(here / "mine")] == ["ok", "ok"]
    assert (here / "mine" / "sweep.html").is_file()


@pytest.mark.slow
def test_an_answer_that_is_not_written_is_given_and_no_good_end(
    start: Start, here: Path, begins_with: Callable[..., None]
) -> None:
    begins_with("(run.parent / 'sweep.html').mkdir(exist_ok=True)")
    done = start("-m", "adapter.r=4,8", "sweep_dir=mine")
    assert done.returncode == 1
    assert errors(done.stderr)[-1].startswith("error: mine/sweep.html: it cannot be written")
    assert "best val/full_price/mape: 200.0 % (job 0)" in done.stdout
    assert [job["status"] for job in jobs_of(here / "mine")] == ["ok", "ok"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["job.json", "begun"])
def test_a_job_that_cannot_be_written_down_is_not_run_and_the_same_command_goes_on(
    start: Start, here: Path, begins_with: Callable[..., None], tmp_path: Path, name: str
) -> None:
    begins_with(
        "other = run.parent / '1'",
        "if cfg.adapter.r == 4:",
        "    other.mkdir()",
        f"    (other / '{name}.part').symlink_to('/dev/full')",
    )
    words, seen = ("-m", "adapter.r=4,8", "sweep_dir=mine"), tmp_path / "seen.txt"
    done = start(*words, environment={"SEEN": str(seen)})
    assert done.returncode == 2, done.stderr
    (line,) = errors(done.stderr)
    assert f"mine/1/{name}: it cannot be written" in line
    assert [job["status"] for job in jobs_of(here / "mine")] == ["ok", "waiting"]
    assert start(*words, environment={"SEEN": str(seen)}).returncode == 0
    assert seen.read_text().split() == ["4", "8"]
