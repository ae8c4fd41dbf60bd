"""How jobs of the real `wandb agent` end, and what a server on this machine is told of it."""

import signal

import pytest
import yaml

from ..conftest import SMALL, read_until, running, warm
from .conftest import make_sweep, replace_training, wandb

pytestmark = pytest.mark.slow


# In the place of a training, which would take its time.
ILL = """
import signal
import sys
import time

import wandb

from phi3v.run import wandb_end


def train(cfg):
    if cfg.seed == 13:
        raise MemoryError("there is no more")
    if cfg.seed == 14:
        wait_for_the_end()
    with wandb.init() as run:
        run.summary["objective"] = 0.25
    return 0.25


def wait_for_the_end():
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    run = wandb.init()
    print("waiting", flush=True)
    try:
        time.sleep(0 if run.resumed else 60)
    finally:
        run.summary["server"] = wandb_end._server_says(run)
        run.log({"more": 1})  # the answer to which tells the client
        until = time.monotonic() + 10
        while not wandb_end._client_says(run) and time.monotonic() < until:
            time.sleep(0.1)
        run.summary["client"] = wandb_end._client_says(run)
"""


def test_jobs_that_end_in_all_ways_are_told_and_the_agent_goes_on(
    server, home, env, tmp_path
) -> None:
    replace_training(home, ILL)
    sweep = make_sweep(home, env, {"seed": [13, 7, 14]})
    # This agent ends with the first job that ends with an error, before others have done well.
    own = {**env, "WANDB_AGENT_MAX_INITIAL_FAILURES": "1"}
    with running("-m", "wandb", "agent", sweep, cwd=home, env=own) as agent:
        read_until(agent, "waiting")
        # What a person does with a button, and early termination by itself.
        server.stop(server.record()["runs"][-1]["id"])
        _, text = agent.communicate(timeout=240)
    assert agent.returncode == 0, text[-3000:]
    record = server.record()
    assert not record["unknown"]
    assert [run["state"] for run in record["runs"]] == ["failed", "finished", "killed"]
    assert [run["sessions"] for run in record["runs"]] == [1, 1, 1]
    without_memory, good, stopped = (run["summary"] for run in record["runs"])
    assert good["objective"] == 0.25
    assert without_memory["outcome"] == "out_of_memory"
    assert without_memory["reason"] == "MemoryError: there is no more"
    assert "MemoryError: there is no more" in text
    folder = tmp_path / "runs" / "lora_r16" / f"wandb-{record['runs'][0]['id']}"
    assert yaml.safe_load((folder / "outcome.json").read_text())["status"] == "out_of_memory"
    # It was not taken off its machine: no agent is to go on with it.
    assert (stopped["outcome"], stopped["reason"]) == ("interrupted", "stopped at W&B")
    assert not record["runs"][2]["preempting"]
    assert stopped["server"] is stopped["client"] is True


def test_a_job_that_is_taken_off_its_machine_goes_on_with_another_agent(
    server, home, env, tmp_path
) -> None:
    sweep = make_sweep(home, env, {"trainer.max_epochs": [2]})
    words = ("-m", "wandb", "agent", "--forward-signals", "--count", "1", sweep)
    with running(*words, cwd=home, env=env) as agent:
        read_until(agent, "validation after")
        agent.send_signal(signal.SIGTERM)
        agent.communicate(timeout=120)
    (run,) = server.record()["runs"]
    assert (run["state"], run["summary"]["outcome"]) == ("preempted", "interrupted")
    assert run["summary"]["reason"] == "ended by SIGTERM"
    text = wandb("agent", "--count", "1", sweep, cwd=home, env=env)
    assert "going on after step" in text
    record = server.record()
    assert not record["unknown"]
    (again,) = record["runs"]
    assert (again["id"], again["state"], again["sessions"]) == (run["id"], "finished", 2)
    assert len(record["agents"]) == 2
    assert (tmp_path / "runs" / "lora_r16" / f"wandb-{run['id']}" / "adapter").is_dir()


ILL_RANK = """
import os

from phi3v.run import train as well
from phi3v.training import FineTuning

step = FineTuning.training_step


def ill(self, *arguments):
    if os.environ.get("LOCAL_RANK") == "1":
        raise RuntimeError("rank one is ill")
    return step(self, *arguments)


def train(cfg):
    FineTuning.training_step = ill
    return well(cfg)
"""


def test_what_another_process_failed_of_is_told_in_full(server, home, env) -> None:
    """Lightning's observer, which looks every 5 s, would kill what still waits for an answer."""
    server.store.late = 5.5
    replace_training(home, ILL_RANK)
    words = (*SMALL[:-1], "trainer.devices=2", "trainer.strategy=ddp", "logger=wandb")
    words = (str(home / "train.py"), *words, "logger.offline=false")
    with warm(*words, cwd=home, env=env) as process:
        _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err[-3000:]
    record = server.record()
    assert not record["unknown"]
    (run,) = record["runs"]
    assert (run["state"], run["summary"]["outcome"]) == ("failed", "failed")
    assert run["summary"]["reason"] == "rank 1: RuntimeError: rank one is ill"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-m", "seed=1,2"], "; leave out -m, the agent starts one job after the other"),
        (["hydra.mode=MULTIRUN", "seed=1,2"], "; leave out -m, the agent starts one job"),
        (["optimizer.lrr=1"], "unknown key 'optimizer.lrr' (did you mean 'optimizer.lr'?)"),
    ],
)
def test_what_is_refused_before_it_begins_has_its_reason_there(
    server, env, home, words, reason
) -> None:
    own = {**env, "WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r"}
    with running(str(home / "train.py"), *words, cwd=home, env=own) as process:
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert reason in err
    record = server.record()
    assert not record["unknown"]
    (run,) = record["runs"]
    assert (run["id"], run["state"], run["sweep"]) == ("r", "failed", "s")
    assert run["summary"]["outcome"] == "failed"
    assert err == f"error: {run['summary']['reason']}\n"
