"""Jobs that submitit runs: interrupted they save, are asked for again, and go on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from phi3v.config import resolvers
from phi3v.config.front_door import TYPED
from phi3v.run.sweep.callback import planned

from .conftest import ROOT, Start, jobs_of

LOCAL = "hydra/launcher=submitit_local"


def plan_of(monkeypatch: pytest.MonkeyPatch, *words: str):
    monkeypatch.setenv(TYPED, json.dumps(["train.py", "-m", *words]))
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        cfg = loader.load_configuration("train", list(words), RunMode.MULTIRUN)
        return planned(cfg), cfg.hydra.launcher


def test_the_configuration_for_slurm_lets_jobs_be_asked_for_again(monkeypatch) -> None:
    plan, launcher = plan_of(monkeypatch, "seed=1,2,3", "hydra/launcher=slurm")
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.max_num_timeout, launcher.tasks_per_node, launcher.nodes) == (20, 1, 1)
    assert launcher.signal_delay_s < 60 * launcher.timeout_min
    assert plan.at_once == 3


@pytest.mark.parametrize(
    ("words", "at_once"),
    [
        (("hydra/launcher=slurm", "hydra.launcher.array_parallelism=2"), 2),
        ((LOCAL,), 3),
        (("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), 2),
        ((), 1),
    ],
)
def test_a_plan_knows_how_many_jobs_run_at_once(monkeypatch, words, at_once) -> None:
    assert plan_of(monkeypatch, "seed=1,2,3", *words)[0].at_once == at_once


@pytest.mark.parametrize("key", ["tasks_per_node", "nodes"])
def test_several_tasks_for_a_job_are_refused(start: Start, here: Path, key: str) -> None:
    word = f"hydra.launcher.{key}=2"
    done = start("-m", "adapter.r=4,8", "hydra/launcher=slurm", word)
    assert done.returncode == 2
    assert f"error: {word}: a job of a sweep is one task on one node" in done.stderr
    assert not list(here.glob("runs/*/*/0"))


@pytest.mark.slow
def test_what_is_told_to_end_saves_and_is_asked_for_again(
    home: Path, here: Path, begins_with: Callable[..., None]
) -> None:
    begins_with(
        "import time",
        "def save(number, frame):",
        "    (run / 'saved').touch()",
        "    raise SystemExit(128 + number)",
        "signal.signal(signal.SIGUSR2, save)",
        "if cfg.adapter.r == 4 and not (run / 'saved').exists():",
        "    (run / 'waits').touch()",
        "    time.sleep(60)",
    )
    words = ("-m", "adapter.r=4,6", LOCAL, "sweep_dir=mine")
    with subprocess.Popen(
        [sys.executable, str(home / "train.py"), *words], cwd=here, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            while not (here / "mine" / "0" / "waits").exists():
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.02)
            job = json.loads((here / "mine" / "0" / "seen.json").read_text())["pid"]
            task = psutil.Process(job).parent()
            assert "submitit" in " ".join(task.cmdline())
            task.send_signal(signal.SIGUSR2)  # as when its time is nearly up
            out, err = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    assert (here / "mine" / "0" / "saved").exists()
    assert [job["status"] for job in jobs_of(here / "mine")] == ["ok", "ok"]
    assert "best val/full_price/mape: 200.0 % (job 0)" in out
