"""An Optuna study that is gone on with: what it learns, what it asks again, when it is over."""

from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from phi3v.config.sweeps import job_folder
from phi3v.errors import UserError
from phi3v.run.outcome import Outcome
from phi3v.run.sweep import job as job_module
from phi3v.run.sweep.directory import Plan, SweepDirectory
from phi3v.run.sweep.study import resume_study

INTERRUPTED = Outcome("interrupted", reason="ended by SIGTERM")
PLAN = Plan(("lr=interval(0,1)",), "train.py", "val/price/mape", (), 6)


def study_of(sweep: SweepDirectory) -> optuna.Study:
    return optuna.create_study(
        study_name="sweep", storage=f"sqlite:///{sweep.path}/study.db", load_if_exists=True
    )


def begun(sweep: SweepDirectory, rate: float, outcome: Outcome | None) -> None:
    """A trial that a sweep was killed in, with its job."""
    study_of(sweep).ask({"lr": optuna.distributions.UniformDistribution(rate, rate)})
    folder = sweep.path / job_folder(sweep.path, 0, [f"lr={rate}", "seed=1"])
    sweep.begin_job(folder)
    if outcome:
        outcome.write(folder)


def config(sweep: SweepDirectory) -> DictConfig:
    storage = f"sqlite:///{sweep.path}/study.db"
    sweeper = {"n_trials": 6, "storage": storage, "study_name": "sweep", "sampler": {"seed": 7}}
    return OmegaConf.create({"hydra": {"sweeper": sweeper, "overrides": {"hydra": []}}})


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    directory = SweepDirectory(tmp_path)
    directory.begin(PLAN)
    return directory


def states(sweep: SweepDirectory) -> list[TrialState]:
    return [trial.state for trial in study_of(sweep).trials]


def test_a_study_learns_what_became_of_jobs_that_outlived_their_sweep(
    sweep: SweepDirectory,
) -> None:
    begun(sweep, 0.25, Outcome("ok", 3.5))
    begun(sweep, 0.5, Outcome("failed", reason="a bug"))
    study_of(sweep).ask()  # killed before anything was chosen
    resumed = config(sweep)
    resume_study(resumed, sweep)
    known, *others = study_of(sweep).trials
    assert (known.state, known.value) == (TrialState.COMPLETE, 3.5)
    assert [trial.state for trial in others] == [TrialState.FAIL] * 2 + [TrialState.WAITING]
    assert others[-1].system_attrs["fixed_params"] == {"lr": 0.5}
    assert resumed.hydra.sweeper.n_trials == 5
    assert resumed.hydra.overrides.hydra == ["hydra.sweeper.n_trials=5"]


def test_a_job_is_asked_for_once_however_often_a_search_was_interrupted(
    sweep: SweepDirectory,
) -> None:
    begun(sweep, 0.25, INTERRUPTED)
    begun(sweep, 0.5, INTERRUPTED)
    for _ in range(3):
        resume_study(config(sweep), sweep)
    assert states(sweep) == [TrialState.FAIL] * 2 + [TrialState.WAITING] * 2


def test_a_job_that_ended_while_it_was_queued_takes_no_other_ones_trial(
    sweep: SweepDirectory,
) -> None:
    begun(sweep, 0.25, None)
    resume_study(config(sweep), sweep)
    Outcome("ok", 3.5).write(sweep.path / "0")
    again = config(sweep)
    resume_study(again, sweep)
    assert states(sweep) == [TrialState.FAIL, TrialState.WAITING]
    assert again.hydra.sweeper.n_trials == 6  # five, and the one that is done already


@pytest.mark.parametrize(
    ("number", "other", "ends"),
    [
        (1, INTERRUPTED, True),
        (0, INTERRUPTED, False),
        (1, None, False),
        (1, Outcome("ok", 1), False),
    ],
)
def test_a_search_is_vain_with_the_last_trial_of_this_start_alone(
    sweep: SweepDirectory,
    number: int,
    other: Outcome | None,
    ends: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = Outcome("failed", reason="a bug")
    begun(sweep, 0.25, failed)
    begun(sweep, 0.5, other)
    hydra = SimpleNamespace(
        job=SimpleNamespace(num=number),
        sweep=SimpleNamespace(dir=str(sweep.path)),
        sweeper=SimpleNamespace(n_trials=2),
    )
    monkeypatch.setattr(job_module.HydraConfig, "get", lambda: hydra)
    monkeypatch.setattr(job_module, "_run_job", lambda *_: (failed, True))
    with pytest.raises(SystemExit if ends else job_module.NoFigureError):
        job_module.run_job(OmegaConf.create(), sweep.path / "0", "program")


@pytest.mark.parametrize("left", [None, b"no database of any kind, and longer than a page"])
def test_a_study_that_is_gone_or_broken_is_told_in_one_line(
    sweep: SweepDirectory, left: bytes | None
) -> None:
    begun(sweep, 0.25, INTERRUPTED)
    (sweep.path / "study.db").unlink()
    if left:
        (sweep.path / "study.db").write_bytes(left)
    with pytest.raises(UserError, match=r"study\.db: the study of this sweep cannot be .*") as told:
        resume_study(config(sweep), sweep)
    assert "\n" not in str(told.value)
