"""However a run ends, it says so, keeps what there is, and leaves no process behind."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from .conftest import ROOT, SMALL, assert_nobody_left, read_until, running, warm


def started(
    cache: Path, folder: Path, *words: str, start: Callable[..., Any] = warm
) -> AbstractContextManager[Any]:
    """A training that goes on until somebody ends it; whatever happens, it is ended here."""
    words = (str(ROOT / "train.py"), *SMALL, "trainer.max_epochs=500", *words)
    return start(*words, cwd=folder, env={"PHI3V_CACHE": str(cache)})


@pytest.mark.parametrize(
    ("sent", "status", "workers"),
    [
        pytest.param(signal.SIGINT, 130, 0, id="ctrl-c"),
        pytest.param(signal.SIGTERM, 143, 0, id="sigterm", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, 2, id="sigterm with workers", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_training_says_so_and_keeps_its_state(
    cache, tmp_path, sent: signal.Signals, status: int, workers: int
) -> None:
    begin = running if sent == signal.SIGINT else warm
    with started(cache, tmp_path, f"data.num_workers={workers}", start=begin) as process:
        read_until(process, "validation after")
        os.killpg(process.pid, sent)  # as a terminal or a cluster does
        for worker in psutil.Process(process.pid).children():  # as who manages services does
            worker.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "interrupted" in err
    assert "Traceback" not in err
    run = tmp_path / out.strip().splitlines()[-1].removeprefix("run: ")
    assert json.loads((run / "outcome.json").read_text())["status"] == "interrupted"
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] >= 4
    assert_nobody_left(process.pid)


@pytest.mark.slow
def test_an_interrupted_sweep_lets_its_job_save_first(cache, tmp_path) -> None:
    with started(cache, tmp_path, "-m", "seed=1,2") as process:
        read_until(process, "validation after")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the job as well
        err = process.communicate(timeout=90)[1]
    assert process.returncode == 130
    assert "Traceback" not in err
    (outcome,) = tmp_path.glob("runs/*/*_sweep/*/outcome.json")
    assert json.loads(outcome.read_text())["status"] == "interrupted"
    assert (outcome.parent / "checkpoints" / "last.ckpt").is_file()


def test_a_training_shorter_than_an_epoch_is_validated_at_its_end(program) -> None:
    # Without a limit the test split is scored as a whole.
    done = program("train.py", *SMALL, "trainer.max_steps=1", "trainer.limit_test_batches=null")
    assert done.status == 0, done.err[-3000:]
    assert len((done.run / "predictions.jsonl").read_text().splitlines()) == 4
    outcome = json.loads((done.run / "outcome.json").read_text())
    assert outcome["objective"] == done.metrics["metrics"]["val/full_price/mape"]


DIVERGING = (*SMALL, "optimizer.lr=1e30", "trainer.gradient_clip_val=null")


def test_a_training_that_diverges_is_stopped_with_step_examples_and_state(
    program, workplace
) -> None:
    done = program("train.py", *DIVERGING, "hydra.run.dir=diverged")
    assert done.status == 2
    (line,) = done.err.strip().splitlines()
    run = workplace / "diverged"
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert line.startswith(f"error: step {last['global_step'] + 1}: the ")
    train = json.loads((run / "splits.json").read_text())["train"]
    assert sum(name in line for name in train) == 8  # a step's
    assert json.loads((run / "outcome.json").read_text())["status"] == "diverged"


def test_a_training_that_diverges_still_leaves_its_figures(program) -> None:
    done = program("train.py", *DIVERGING, "max_skipped_steps=100")
    assert done.status == 0, done.err[-3000:]
    assert done.metrics["metrics"]["val/loss"] is None
    assert json.loads((done.run / "outcome.json").read_text())["status"] == "diverged"
    assert (done.run / "report.html").is_file()
    assert "left out" in done.out + done.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["objective=val/foo/mape"], "objective=val/foo/mape"),
        (["callbacks.best.objective=foo/mape"], "val/foo/mape"),
        (["trainer.limit_val_batches=0"], "objective=test/full_price/mape"),
        (["~data.splits.test", "data.splits.val=0.2"], "split=test"),
        (["adapter.r=0"], "adapter r=0"),
        (["trainer.val_check_interval=1000"], "an epoch has 4 batches"),
        (["trainer.limit_train_batches=0.001"], "trainer.limit_train_batches=0.001: of the 4 "),
        (["trainer.limit_val_batches=0.001"], "trainer.limit_val_batches=0.001: of the "),
    ],
)
def test_what_cannot_end_well_is_refused_before_the_first_step(
    program, words: list[str], named: str
) -> None:
    done = program("train.py", *SMALL, *words)
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert named in done.err
    assert "step 1/" not in done.out


def test_a_trainer_that_this_machine_lacks_is_refused_in_one_line(program) -> None:
    done = program("train.py", *SMALL, "trainer=gpu", env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.status == 2
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert "trainer" in done.err


def evaluated(program: Any, run: Path, *words: str) -> Any:
    done = program("eval.py", f"run={run}", *words)
    assert done.status == 0, done.err[-3000:]
    return done


def test_only_data_without_the_runs_examples_are_divided_anew(small, program, tmp_path) -> None:
    grown = evaluated(program, small.run, "data.rows=60")
    assert grown.metrics["test"] == small.metrics["test"]
    assert "20 newer examples are in no split" in grown.out + grown.err
    shop = tmp_path / "shop.csv"
    rows = [f"other-{i},Large Red Plain Wool Scarf,Scarves,{100 + i},{i}.png" for i in range(20)]
    head = "product_code,title,category3_code,full_price,local_image_path"
    shop.write_text("\n".join([head, *rows]) + "\n")
    for i in range(20):
        Image.new("RGB", (60, 60), (10 * i, 90, 30)).save(tmp_path / f"{i}.png")
    other = evaluated(
        program, small.run, "data=csv", f"data.path={shop}", "data.id_column=product_code"
    )
    assert sum(other.metrics["rows"].values()) == 20
    assert "divided anew" in other.out


def test_the_same_data_keep_their_splits(small, program) -> None:
    same = evaluated(program, small.run, "data.rows=40", "data.eval_batch_size=8")
    assert same.metrics["test"] == small.metrics["test"]


def test_a_run_without_its_splits_or_with_another_adapter_is_not_guessed_at(
    small, program, tmp_path
) -> None:
    refused = program("eval.py", f"run={small.run}", "adapter.r=8")
    assert refused.status == 2
    assert "the adapter is the run's own" in refused.err
    refused = program("eval.py", "model=tiny", "adapter=lora")
    assert refused.status == 2
    assert "a bare base has none" in refused.err
    shutil.copytree(small.run, tmp_path / "run")
    (tmp_path / "run" / "splits.json").unlink()
    refused = program("eval.py", f"run={tmp_path / 'run'}")
    assert refused.status == 2
    assert "splits.json: missing" in refused.err


def test_shares_that_are_no_batch_are_told_before_the_model_is_loaded(program) -> None:
    refused = program(
        "train.py", *SMALL, "model.path=no/such/model", "trainer.limit_train_batches=0.001"
    )
    assert refused.status == 2
    assert "of the 4 batches of train that is none" in refused.err
    assert "no/such/model" not in refused.err


def test_mistakes_in_the_data_are_told_before_the_model_is_loaded(program) -> None:
    refused = program(
        "train.py", "experiment=lora_r16", "model.path=no/such/model", "data=csv",
        "data.path=no.csv",
    )  # fmt: skip
    assert refused.status == 2
    assert "no.csv" in refused.err
    assert "no/such/model" not in refused.err


@pytest.mark.parametrize("words", [["max_new_tokens=0"], ["seed=-1"], ["optimizer.lr=-1"]])
def test_a_number_out_of_range_is_one_line(program, words) -> None:
    refused = program("train.py", *SMALL, *words)
    assert refused.status == 2
    assert len(refused.err.strip().splitlines()) == 1, refused.err
    assert words[0] in refused.err


def test_one_step_scores_one_batch_and_without_callbacks_nothing_is_kept(program) -> None:
    done = program(
        "train.py", *SMALL, "debug=step", "callbacks=none", "data.eval_batch_size=2",
        "trainer.profiler=simple",
    )  # fmt: skip
    assert done.status == 0, done.err[-3000:]
    assert len((done.run / "predictions.jsonl").read_text().splitlines()) == 2
    assert done.metrics["rows"]["test"] == 2
    assert not list(done.run.rglob("*.ckpt"))
    assert "run_training_batch" in done.out + done.err


@pytest.mark.slow
def test_four_batches_are_learned_by_heart(program) -> None:
    few = ("batch_size=4", "data.batch_size=4")
    done = program("train.py", *SMALL[:2], *few, "max_new_tokens=24", "debug=overfit")
    assert done.status == 0, done.err[-3000:]
    with (done.run / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert "step 160/160" in done.out  # 40 times four batches
    assert losses[0] > 1
    assert losses[-1] < 0.05


@pytest.mark.slow
def test_a_profile_says_where_the_time_went(program) -> None:
    few = ("data.rows=60", "batch_size=2", "data.batch_size=2", "max_new_tokens=24")
    done = program("train.py", "experiment=lora_r16", *few, "debug=profile")
    assert done.status == 0, done.err[-3000:]
    assert "step 20/20" in done.out
    assert "FIT Profiler Report" in done.out + done.err
    assert "run_training_batch" in done.out + done.err
