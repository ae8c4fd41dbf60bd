"""A search: going on where it stopped, and what is said where nothing comes of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Start, jobs_of, only_sweep


@pytest.mark.slow
def test_a_search_goes_on_where_it_stopped(start: Start, here: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.txt"
    words = (
        "-m",
        "sweep=optuna",
        "~hydra.sweeper.params.experiment",
        "adapter.r=choice(2,4,6,13,17,21)",
    )
    first = start(*words, "hydra.sweeper.n_trials=3", environment={"SEEN": str(seen)})
    sweep = only_sweep(here)
    before = jobs_of(sweep)
    assert len(before) == 3, first.stderr
    again = start(*words, "hydra.sweeper.n_trials=5", environment={"SEEN": str(seen)})
    after = jobs_of(sweep)
    assert len(after) == 5, again.stderr
    assert [job for job in after[:3] if job["status"] in ("ok", "diverged")] == [
        job for job in before if job["status"] in ("ok", "diverged")
    ]
    rates = [job["overrides"]["optimizer.lr"] for job in after]
    assert len(set(rates)) == 5
    failed = [job for job in before if job["status"] == "failed"]
    assert len(seen.read_text().split()) == 5 + len(failed)
    assert f"going on with this sweep: {sum(j['status'] == 'ok' for j in before)}" in again.stdout


@pytest.mark.slow
def test_a_search_that_has_had_more_trials_than_are_wanted_gives_its_answer(
    start: Start, here: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen.txt"
    words = ("-m", "sweep=optuna", "~hydra.sweeper.params.experiment", "adapter.r=choice(2,4)")
    first = start(*words, "hydra.sweeper.n_trials=3", environment={"SEEN": str(seen)})
    assert first.returncode == 0, first.stderr
    best = first.stdout[first.stdout.index("best val/full_price/mape") :]
    again = start(*words, "hydra.sweeper.n_trials=2", environment={"SEEN": str(seen)})
    assert again.returncode == 0, again.stderr
    assert len(seen.read_text().split()) == 3
    (line,) = [line for line in again.stdout.splitlines() if "n_trials=2:" in line]
    assert "3 jobs of this sweep have ended already, and no other is begun" in line
    assert again.stdout.endswith(best)
    for told in (first, again):  # Optuna's own lines are coloured wherever they go
        assert "\x1b" not in told.stdout + told.stderr
        assert "study" not in told.stderr


@pytest.mark.slow
def test_a_search_of_which_nothing_comes_says_so(start: Start) -> None:
    words = ("~hydra.sweeper.params.experiment", "adapter.r=13", "hydra.sweeper.n_trials=3")
    done = start("-m", "sweep=optuna", *words, "optimizer.lr=choice(1,2)")  # one comes twice
    assert done.returncode == 1
    assert "no job came to a figure" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_search_of_which_nothing_comes_and_whose_last_job_is_not_the_last_to_end_says_so(
    start: Start, here: Path, begins_with: Callable[..., None]
) -> None:
    begins_with("import time", "time.sleep(4 if run.name == '0' else 0)")
    words = ("~hydra.sweeper.params.experiment", "adapter.r=13", "hydra.sweeper.n_trials=2")
    at_once = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2")
    done = start("-m", "sweep=optuna", *words, *at_once)
    assert done.returncode == 1
    assert done.stderr.endswith("error: no job of this search came to a figure\n")
    assert "Traceback" not in done.stderr
    assert [job["status"] for job in jobs_of(only_sweep(here))] == ["failed"] * 2


@pytest.mark.slow
@pytest.mark.parametrize(("state", "status"), [("diverged", 1), ("pruned", 0)])
def test_a_search_of_which_nothing_came_gives_its_answer_once_more(
    start: Start, here: Path, begins_with: Callable[..., None], state: str, status: int
) -> None:
    error = {"diverged": "DivergedError('no')", "pruned": "PrunedError('no', None)"}[state]
    begins_with("from phi3v.errors import DivergedError, PrunedError", f"raise {error}")
    words = ("~hydra.sweeper.params.experiment", "adapter.r=8", "hydra.sweeper.n_trials=1")
    for _ in range(2):
        done = start("-m", "sweep=optuna", *words)
        assert done.returncode == status
        assert "no job came to a figure" in done.stdout
        assert "Traceback" not in done.stderr
        assert [job["status"] for job in jobs_of(only_sweep(here))] == [state]
    assert "going on with this sweep: 0 of 1 jobs are done" in done.stdout
