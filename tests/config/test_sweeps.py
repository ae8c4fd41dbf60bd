"""What makes a sweep that sweep: its program, its words, and the files it is composed from."""

import shutil
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from phi3v.config.front_door import read_arguments
from phi3v.config.sweeps import (
    begun_sweep,
    config_flags,
    fixes_settings,
    objective_of,
    sweep_folder,
    sweep_words,
)

from .conftest import messages


def test_a_sweep_is_found_again_by_its_own_program_alone(tmp_path: Path) -> None:
    words = sweep_words(["seed=1,2"])
    folder = sweep_folder(tmp_path, "mine", "train.py", words)
    assert begun_sweep(tmp_path, "train.py", words) == folder
    assert sweep_folder(tmp_path, "mine", "train.py", words) == folder
    assert begun_sweep(tmp_path, "eval.py", words) is None
    other = sweep_folder(tmp_path, "eval", "eval.py", words)
    assert begun_sweep(tmp_path, "eval.py", words) == other != folder
    assert begun_sweep(tmp_path, "train.py", words) == folder


def test_a_sweep_of_other_configuration_files_is_another_one(tmp_path: Path) -> None:
    flags = config_flags(read_arguments(["-cn", "b", "seed=1,2", "--config-dir", "c", "-m"]))
    assert flags == ("--config-name=b", "--config-dir=c")
    words = sweep_words(["seed=1,2", "+a=1"], flags)
    assert words == (*flags, "+a=1", "seed=1,2")
    folder = sweep_folder(tmp_path, "mine", "train.py", words)
    assert begun_sweep(tmp_path, "train.py", words) == folder
    assert begun_sweep(tmp_path, "train.py", sweep_words(["seed=1,2", "+a=1"])) is None


@pytest.mark.parametrize(
    ("cfg", "name"),
    [
        ({"objective": "val/price/mape"}, "val/price/mape"),
        ({"objective": "val/price/mape", "split": "test"}, "test/price/mape"),
        ({"objective": "test/parse_rate", "split": "train"}, "train/parse_rate"),
    ],
)
def test_an_evaluation_returns_the_figure_of_the_split_it_scores(
    cfg: dict[str, str], name: str
) -> None:
    assert objective_of(cfg) == name


@pytest.mark.parametrize("flag", ["-m", "hydra.mode=MULTIRUN"])
def test_runs_are_not_gone_on_with_in_a_sweep(program, flag: str, tmp_path: Path) -> None:
    done = program("train.py", flag, "run=runs/a,runs/b")
    assert done.returncode == 2
    [line] = messages(done.stderr)
    assert line.startswith("error: run=runs/a: the jobs of -m are new runs")
    assert "type python train.py run=runs/a, and so for one run after the other" in line
    assert list(tmp_path.iterdir()) == []


def test_runs_are_scored_in_a_sweep(program) -> None:
    [line] = messages(program("eval.py", "-m", "run=runs/a,runs/b").stderr)
    assert line.startswith("error: run=runs/a: there is no config.yaml in it")


@pytest.mark.parametrize(
    ("text", "fixes"),
    [
        ("hydra: {sweeper: {params: {seed: '1,2'}}}", False),
        (
            "defaults: [override /hydra/sweeper: optuna, _self_]\nhydra: {sweeper: {n_trials: 2}}",
            False,
        ),
        ("hydra: {sweeper: {params: {seed: '1,2'}}}\ntrainer: {max_epochs: 1}", True),
        ("defaults: [override /callbacks: pruning]", True),
        ("defaults: [rank_lr]", True),
    ],
)
def test_a_sweep_that_sets_something_for_all_its_jobs_is_known(
    conf: Path, tmp_path: Path, text: str, fixes: bool
) -> None:
    shutil.copytree(conf, tmp_path / "conf")
    (tmp_path / "conf" / "sweep" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        assert fixes_settings("mine") is fixes
        assert fixes_settings("rank_lr") is False
