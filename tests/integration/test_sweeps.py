"""Sweeps of real trainings on two processes each, started and ended as a user does."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import optuna
import pytest
import yaml

from phi3v.run.directory import RunDirectory

from .conftest import ROOT, SMALL, assert_nobody_left, read_until, warm

pytestmark = pytest.mark.slow

DDP = (
    *(word for word in SMALL if word != "data.batch_size=8"),
    "trainer.strategy=ddp",
    "trainer.devices=2",
)
JOBS = (3, 1)  # with a second rank each
# Seeds that make a job ill, so that what happens to it can be told from what happens to others.
# Each process writes down what it really trains with.
FAULTS = """
import json, os, signal
from pathlib import Path

from hydra.core.hydra_config import HydraConfig


def inject(cfg):
    if HydraConfig.get().mode.name != "RUN":
        return
    from phi3v.training import FineTuning

    step, done = FineTuning.training_step, []
    rank = os.environ.get("LOCAL_RANK", "0")
    killed = Path(cfg.paths.run) / "killed"

    def ill(self, *arguments):
        done.append(1)
        if len(done) == 1:
            rates = [group["initial_lr"] for group in self.optimizers().param_groups]
            told = {"seed": self.seed, "lr": rates, "batch_size": cfg.batch_size}
            (Path(cfg.paths.run) / f"told_{rank}.json").write_text(json.dumps(told))
        if cfg.seed == 13 and rank == "1" and len(done) == 2:
            raise RuntimeError("rank one is ill")
        if cfg.seed == 14 and rank == "0" and len(done) == 4 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    FineTuning.training_step = ill
"""


@pytest.fixture
def home(tmp_path) -> Path:
    """The programs, with a train.py that can make jobs ill."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copytree(ROOT / "conf", folder / "conf")
    begin = "    from phi3v.run import jobs"
    text = (ROOT / "train.py").read_text()
    assert begin in text
    ill = "    import faults\n\n    faults.inject(cfg)\n"
    (folder / "train.py").write_text(text.replace(begin, f"{ill}{begin}"))
    (folder / "faults.py").write_text(FAULTS)
    return folder


@pytest.fixture
def env(cache) -> dict[str, str]:
    return {"PHI3V_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def sweep(
    home: Path, env: dict[str, str], *words: str, spares: tuple[int, ...] = JOBS
) -> tuple[int, str, str]:
    """Runs a sweep to its end; nothing of it is left behind then."""
    with warm(str(home / "train.py"), "-m", *words, cwd=home, env=env, spares=spares) as process:
        out, err = process.communicate(timeout=400)
        assert_nobody_left(process.pid)
    return process.returncode, out, err


def told_in(folder: Path) -> dict:
    """What both processes of a job trained with."""
    first, second = (json.loads((folder / f"told_{rank}.json").read_text()) for rank in "01")
    assert first == second
    return first


def jobs_in(folder: Path) -> list[dict]:
    return json.loads((folder / "sweep.json").read_text())["jobs"]


def test_jobs_on_one_and_two_processes_are_the_same_training(home, env) -> None:
    words = [word for word in DDP if not word.startswith("trainer.devices")]
    # The one on two is started, and starts its second rank, as for a user: in new interpreters.
    devices = "trainer.devices=1,2,1"
    status, _, err = sweep(home, env, *words, devices, "sweep_dir=all", spares=())
    assert status == 0, err[-3000:]
    told_in(home / "all" / "1")
    jobs = jobs_in(home / "all")
    assert [job["status"] for job in jobs] == ["ok"] * 3
    first, second, third = (job["objective"] for job in jobs)
    assert first == third
    assert second == pytest.approx(first, rel=1e-3)


def test_a_job_that_is_ill_on_one_rank_and_one_that_is_killed(home, env) -> None:
    words = (*DDP, "seed=13,14", "callbacks.last.steps=1", "sweep_dir=all")
    status, _, err = sweep(home, env, *words)
    assert status == 1
    assert err.count("RuntimeError: rank one is ill\n") == 2  # its own traceback, the first's line
    assert "error: rank 1: RuntimeError: rank one is ill\n" in err
    assert err.count("Traceback") == 1
    assert "gloo" not in err
    jobs = jobs_in(home / "all")
    assert [job["status"] for job in jobs] == ["failed", "interrupted"]
    assert [job["reason"] for job in jobs] == [
        "rank 1: RuntimeError: rank one is ill",
        "ended by SIGKILL",
    ]
    seeds = [yaml.safe_load((home / "all" / job / "config.yaml").read_text())["seed"]
             for job in "01"]  # fmt: skip
    assert seeds == [13, 14]
    assert [told_in(home / "all" / job)["seed"] for job in "01"] == [13, 14]
    status, out, _ = sweep(home, env, *words)
    assert status == 1
    assert "going on after step 3" in out
    assert [job["status"] for job in jobs_in(home / "all")] == ["failed", "ok"]


def test_ctrl_c_lets_the_job_save_and_the_sweep_goes_on(home, env) -> None:
    words = (*DDP, "seed=7,8", "trainer.max_epochs=2", "sweep_dir=all")
    with warm(str(home / "train.py"), "-m", *words, cwd=home, env=env, spares=JOBS) as process:
        read_until(process, "validation after")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        err = process.communicate(timeout=90)[1]
        assert_nobody_left(process.pid)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert [job["status"] for job in jobs_in(home / "all")] == ["interrupted", "waiting"]
    status, out, err = sweep(home, env, *words)
    assert status == 0, err[-3000:]
    assert "going on after step" in out
    assert [job["status"] for job in jobs_in(home / "all")] == ["ok", "ok"]


def test_a_search_over_jobs_of_two_processes(home, env) -> None:
    words = (*DDP, "~hydra.sweeper.params.experiment", "hydra.sweeper.n_trials=2")
    status, _, err = sweep(home, env, "sweep=optuna", *words, "sweep_dir=all")
    assert status == 0, err[-3000:]
    jobs = jobs_in(home / "all")
    assert [job["status"] for job in jobs] == ["ok", "ok"]
    for job in jobs:
        config = yaml.safe_load((home / "all" / str(job["job"]) / "config.yaml").read_text())
        rate = float(job["overrides"]["optimizer.lr"])
        assert config["optimizer"]["lr"] == pytest.approx(rate)
        told = told_in(home / "all" / str(job["job"]))
        assert told["lr"] == pytest.approx([rate] * len(told["lr"]))
        assert told["seed"] == config["seed"]
    study = yaml.safe_load((home / "all" / "optimization_results.yaml").read_text())
    assert study["best_value"] == pytest.approx(min(job["objective"] for job in jobs))


def test_a_search_ends_a_training_that_has_no_hope(home, env) -> None:
    words = (
        *("sweep=optuna", *SMALL, "trainer.max_epochs=3", "~hydra.sweeper.params.experiment"),
        # The sampler draws the second one first, and both of them with its first three numbers.
        *("optimizer.lr=choice(1e-9,0.004)", "hydra.sweeper.n_trials=3"),
        *("callbacks.hopeless.jobs=1", "task.objective=title/edit_similarity", "sweep_dir=all"),
        "max_new_tokens=24",  # enough of a title to come nearer to it
    )
    status, out, err = sweep(home, env, *words)
    assert status == 0, err[-3000:]
    jobs = jobs_in(home / "all")
    assert [job["overrides"]["optimizer.lr"] for job in jobs] == ["0.004", "1e-09"]
    learns, idles = jobs
    assert (learns["status"], idles["status"]) == ("ok", "pruned")
    assert learns["objective"] > idles["objective"] == 0
    assert re.match(r"val/title/edit_similarity was 0 at best by step 8, and ", idles["reason"])
    steps = [row["step"] for row in RunDirectory(home / "all" / str(idles["job"])).read_history()]
    assert max(map(int, steps)) == 8  # of 12
    assert f"(job {learns['job']})" in out
    trials = optuna.load_study(study_name="sweep", storage=f"sqlite:///{home}/all/study.db").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert sorted({trial.value for trial in trials}) == [0, learns["objective"]]
