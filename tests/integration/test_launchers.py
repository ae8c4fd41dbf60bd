"""Processes that torchrun or SLURM starts: one run directory, and the rest of a run after a signal.

tests/support/srun.py stands in for SLURM: it sets the same variables and passes signals on.
"""

import json
import signal
import socket

import pytest
import yaml

from .conftest import ROOT, SMALL, read_until, running, start
from .test_resume import WEIGHTS, losses

pytestmark = pytest.mark.slow

RECIPE = (
    *(word for word in SMALL if word != "data.batch_size=8"),
    "trainer.strategy=ddp",
    "adapter.dropout=0.1",
    "data.num_workers=2",
)
WORDS = (*RECIPE, "trainer.devices=2")
SRUN = (str(ROOT / "tests" / "support" / "srun.py"), "2", str(ROOT / "train.py"))
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node=2")


@pytest.fixture
def env(cache):
    return {"PHI3V_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(program):
    """The same training, started by Lightning and never interrupted."""
    done = program("train.py", *WORDS)
    assert done.status == 0, done.err[-3000:]
    return done.run


def assert_same(run, whole) -> None:
    assert losses(run) == losses(whole)
    assert (run / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_torchrun_goes_on_with_an_unfinished_run_when_that_is_asked(env, tmp_path, whole) -> None:
    words = (*TORCHRUN, str(ROOT / "train.py"), *WORDS)
    with running(*words, cwd=tmp_path, env=env) as process:
        read_until(process, "step 1/")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 1  # which is torchrun's own
    (begun,) = (tmp_path / "runs" / "lora_r16").iterdir()  # one for both
    assert begun.name.startswith("torchrun-")
    again = start(*words, "resume=true", cwd=tmp_path, env=env)
    assert again.status == 0, again.err[-3000:]
    assert "going on after step" in again.out
    assert again.out.count("data: drawn catalogue") == 1
    assert tmp_path / again.run == begun
    assert len(losses(begun)) == 4
    assert_same(begun, whole)


def test_torchrun_makes_one_evaluation(env, tmp_path, small) -> None:
    words = (f"run={small.run}", "trainer.strategy=ddp", "trainer.devices=2")
    done = start(*TORCHRUN, str(ROOT / "eval.py"), *words, cwd=tmp_path, env=env)
    assert done.status == 0, done.err[-3000:]
    assert "the run's test figures, exactly" in done.out
    assert [one for one in done.run.parent.iterdir() if "torchrun-" in one.name] == [done.run]


def test_two_nodes_train_what_one_trains(env, tmp_path, whole) -> None:
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    words = (
        *("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-id=both"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--local-addr=127.0.0.1"),
        *(str(ROOT / "train.py"), *RECIPE, "trainer.devices=1", "trainer.num_nodes=2"),
    )
    with (
        running(*words, cwd=tmp_path, env=env) as one,
        running(*words, cwd=tmp_path, env=env) as other,
    ):
        _, err = one.communicate(timeout=240)
        other.communicate(timeout=60)
    assert (one.returncode, other.returncode) == (0, 0), err
    (run,) = (tmp_path / "runs" / "lora_r16").iterdir()
    assert run.name == "torchrun-both"
    assert_same(run, whole)


def test_another_number_of_processes_than_planned_is_refused(env, tmp_path) -> None:
    done = start(*TORCHRUN, str(ROOT / "train.py"), *SMALL, cwd=tmp_path, env=env)
    assert done.status != 0
    assert "2 processes were started, and trainer.devices=1" in done.err


def test_what_slurm_interrupts_goes_on_by_itself_when_slurm_starts_it_again(
    env, tmp_path, whole
) -> None:
    with running(*SRUN, *WORDS, cwd=tmp_path, env=env) as process:
        read_until(process, "step 1/")
        process.send_signal(signal.SIGUSR1)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGUSR1, err
    again = start(*SRUN, *WORDS, cwd=tmp_path, env=env)
    assert again.status == 0, again.err[-3000:]
    assert "going on after step" in again.out
    run = tmp_path / again.run
    assert run.name == "slurm-4711-0"
    assert_same(run, whole)


def test_submitit_runs_the_job_of_a_sweep(env, tmp_path) -> None:
    """Several, whose training is a few lines long: tests/run/test_sweep_submitit.py."""
    words = (*SMALL, "seed=8", "hydra/launcher=submitit_local", "hydra.sweep.dir=sweep")
    done = start(str(ROOT / "train.py"), "-m", *words, cwd=tmp_path, env=env)
    assert done.status == 0, done.err[-3000:]
    job = tmp_path / "sweep" / "0"
    assert json.loads((job / "outcome.json").read_text())["status"] == "ok"
    assert yaml.safe_load((job / "config.yaml").read_text())["seed"] == 8
