"""metrics.csv: one row an event, columns that may come later, and a file that goes on."""

import csv

import pytest
import torch

from phi3v.errors import UserError
from phi3v.training import LastCheckpoint, LoggedStep, StepMetrics, Throughput

from .conftest import Killed


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        return reader.fieldnames, list(reader)


def test_each_event_is_a_row_with_step_and_epoch_first(tmp_path):
    logger = StepMetrics(tmp_path)
    logger.log_metrics({"train/loss": 1.5, "epoch": 0}, step=0)
    logger.log_metrics({"train/loss": torch.tensor(0.5), "epoch": 0}, step=1)
    columns, rows = read(tmp_path)
    assert columns == ["step", "epoch", "train/loss"]
    assert rows == [
        {"step": "1", "epoch": "0", "train/loss": "1.5"},
        {"step": "2", "epoch": "0", "train/loss": "0.5"},
    ]


def test_a_metric_that_comes_later_gets_a_column_and_old_rows_stay(tmp_path):
    logger = StepMetrics(tmp_path)
    logger.log_metrics({"a": 1.0, "epoch": 0}, step=0)
    logger.log_metrics({"b": 2.5, "epoch": 0}, step=1)
    logger.log_metrics({"a": 3.0, "b": 4.0, "epoch": 1}, step=2)
    columns, rows = read(tmp_path)
    assert columns == ["step", "epoch", "a", "b"]
    assert [(row["a"], row["b"]) for row in rows] == [("1", ""), ("", "2.5"), ("3", "4")]


def test_an_existing_file_is_continued_also_with_new_columns(tmp_path):
    StepMetrics(tmp_path).log_metrics({"a": 1.0, "epoch": 0}, step=0)
    again = StepMetrics(tmp_path)
    again.log_metrics({"a": 2.0, "c": 0.25, "epoch": 1}, step=1)
    columns, rows = read(tmp_path)
    assert columns == ["step", "epoch", "a", "c"]
    assert [(row["step"], row["a"]) for row in rows] == [("1", "1"), ("2", "2")]
    assert [row["c"] for row in rows] == ["", "0.25"]


def test_values_are_written_without_loss(tmp_path):
    StepMetrics(tmp_path).log_metrics({"a": 0.1 + 0.2, "b": float("nan"), "c": 1e-9}, step=3)
    row = read(tmp_path)[1][0]
    assert float(row["a"]) == 0.1 + 0.2
    assert row["b"] == "nan"
    assert float(row["c"]) == 1e-9


def test_the_file_is_there_after_every_event(tmp_path):
    logger = StepMetrics(tmp_path / "run" / "deep")
    for step in range(3):
        logger.log_metrics({"a": float(step)}, step=step)
        assert len(read(tmp_path / "run" / "deep")[1]) == step + 1
    assert [path.name for path in (tmp_path / "run" / "deep").iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("name", ["metrics.csv", "metrics.csv.part"])
def test_a_full_disk_is_one_line(tmp_path, name):
    logger = StepMetrics(tmp_path)
    logger.log_metrics({"a": 1.0}, step=0)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("/dev/full")
    new = {} if name == "metrics.csv" else {"b": 2.0}  # for which the file is written anew
    with pytest.raises(UserError, match=r"metrics\.csv: it cannot be written.*No space left"):
        logger.log_metrics({"a": 2.0, **new}, step=1)
    if new:
        assert read(tmp_path)[1] == [{"step": "1", "epoch": "", "a": "1"}]


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks_write_nothing(tmp_path, monkeypatch, rank):
    from lightning.pytorch.utilities import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", rank)
    StepMetrics(tmp_path).log_metrics({"a": 1.0}, step=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", ["", "2,0,0.1"])
def test_no_row_is_lost_to_a_kill_between_a_checkpoint_and_its_log(
    run, tmp_path, monkeypatch, torn
):
    whole, _ = run("whole")
    log = StepMetrics.log_metrics

    def killed(self, metrics, step):
        if "train/loss" in metrics and step == 1:
            with self.path.open("a") as file:
                file.write(torn)
            raise Killed
        log(self, metrics, step)

    keep = LastCheckpoint(tmp_path, steps=1)
    with monkeypatch.context() as patched:
        patched.setattr(StepMetrics, "log_metrics", killed)
        run("killed", keep=keep, stop=LoggedStep(), ends=Killed)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2
    StepMetrics(tmp_path / "killed").rewind(2)
    run("killed", resume=tmp_path / "last.ckpt", keep=keep, others=[LoggedStep()])
    columns, rows = read(tmp_path / "killed")
    assert [row["step"] for row in rows if row["train/loss"]] == [step for step, *_ in whole]
    assert (columns, rows) == read(tmp_path / "whole")


def test_a_row_that_was_logged_is_not_logged_again(run, tmp_path):
    # Which has figures for the first epoch alone.
    keep = {"keep": LastCheckpoint(tmp_path), "others": [LoggedStep(), Throughput(seconds=60)]}
    run("run", **keep)
    before = read(tmp_path / "run")
    run("run", resume=tmp_path / "last.ckpt", **keep)
    assert read(tmp_path / "run") == before
