"""W&B, TensorBoard and CSV: what arrives there, and that nothing is sent unasked."""

import json
import signal
from pathlib import Path

import pytest
from wandb_loopback import LoopbackServer

from .conftest import ROOT, inherited, read_until, warm


def test_wandb_gets_metrics_configuration_and_one_growing_table(
    program, small_words, tmp_path: Path
) -> None:
    with LoopbackServer(tmp_path / "server") as server:
        done = program(
            "train.py", *small_words, "logger=wandb", "logger.offline=false",
            env=server.client_env(tmp_path / "client"), fresh=True,
        )  # fmt: skip
        record = server.record()
    assert done.status == 0, done.err[-3000:]
    assert not record["unknown"]
    (run,) = record["runs"]
    assert run["state"] == "finished"
    assert run["config"]["run"]["adapter"]["r"] == 16
    assert any("train/loss" in row for row in run["history"])
    assert any("val/full_price/mape" in row for row in run["history"])
    final = {k: v for k, v in done.metrics["metrics"].items() if k.startswith("test/") and v}
    assert {name: run["summary"][name] for name in final} == pytest.approx(final)
    panels = {key for row in run["history"] for key in row if "predictions" in key}
    assert panels == {"predictions"}
    artifacts = record["artifacts"]
    tables = artifacts.values() if isinstance(artifacts, dict) else artifacts
    (table,) = [one for one in tables if "predictions" in one["name"]]
    assert any(name.endswith(".png") for name in table["files"])


@pytest.mark.slow
def test_a_run_that_diverged_has_its_reason_at_wandb_and_no_objective(
    program, small_words, tmp_path: Path
) -> None:
    with LoopbackServer(tmp_path / "server") as server:
        done = program(
            "train.py", *small_words, "logger=wandb", "logger.offline=false", "optimizer.lr=1e30",
            "trainer.gradient_clip_val=null", "max_skipped_steps=100",
            env=server.client_env(tmp_path / "client"),
        )  # fmt: skip
        record = server.record()
    assert done.status == 0, done.err[-3000:]
    (run,) = record["runs"]
    outcome = json.loads((done.run / "outcome.json").read_text())
    assert (run["state"], run["summary"]["outcome"]) == ("failed", "diverged")
    assert run["summary"]["reason"] == outcome["reason"] != ""
    assert "objective" not in run["summary"]


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_same_run_for_wandb(program, small_words, tmp_path: Path) -> None:
    words = ("train.py", *small_words, "trainer.max_epochs=2", "logger=wandb")
    with LoopbackServer(tmp_path / "server") as server:
        env = {**inherited(), **server.client_env(tmp_path / "client")}
        path, *rest = (str(ROOT / words[0]), *words[1:], "logger.offline=false")
        with warm(path, *rest, "hydra.run.dir=begun", cwd=tmp_path, env=env) as process:
            read_until(process, "validation after")
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 143, err[-3000:]
        done = program("train.py", f"run={tmp_path / 'begun'}", env=env)
        record = server.record()
    assert done.status == 0, done.err[-3000:]
    (run,) = record["runs"]
    assert run["id"] == (tmp_path / "begun" / "wandb_id.txt").read_text().strip()
    steps = [row["trainer/global_step"] for row in run["history"] if "train/loss" in row]
    assert steps == sorted(steps)
    assert set(steps) == set(range(8))


def test_wandb_is_offline_unless_asked_otherwise(program, small_words, tmp_path: Path) -> None:
    with LoopbackServer(tmp_path / "server") as server:
        env = server.client_env(tmp_path / "client")
        env.pop("WANDB_MODE"), env.pop("WANDB_DIR")
        done = program("train.py", *small_words, "logger=wandb", env=env)
        assert server.record()["runs"] == []
    assert done.status == 0, done.err[-3000:]
    assert list((done.run / "wandb").glob("offline-run-*"))


def test_tensorboard_gets_event_files(program, small_words) -> None:
    done = program("train.py", *small_words, "logger=tensorboard")
    assert done.status == 0, done.err[-3000:]
    assert list(done.run.rglob("events.out.tfevents.*"))


def test_lightnings_csv_logger_writes_its_own_file(program, small_words) -> None:
    done = program("train.py", *small_words, "logger=csv")
    assert done.status == 0, done.err[-3000:]
    (file,) = (done.run / "csv").rglob("metrics.csv")
    assert "train/loss" in file.read_text()


def test_the_default_leaves_no_trace_of_a_logger(small) -> None:
    assert not (small.run / "wandb").exists()
    assert json.loads((small.run / "outcome.json").read_text())["status"] == "ok"
