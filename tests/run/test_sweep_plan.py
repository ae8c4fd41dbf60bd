"""What a sweep is before it starts: its jobs, whose sweep it is, and what is no sweep."""

import json
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from phi3v.config import resolvers
from phi3v.config.front_door import TYPED
from phi3v.config.sweeps import job_folder
from phi3v.errors import UserError
from phi3v.run.outcome import Outcome
from phi3v.run.sweep import callback
from phi3v.run.sweep.callback import planned
from phi3v.run.sweep.directory import Plan, SweepDirectory

from .conftest import ROOT, Start


def test_what_a_sweep_would_run_is_shown_and_nothing_is_written(start: Start, here: Path) -> None:
    done = start("-m", "sweep=rank_lr", "seed=1,2", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("sweep of 12 jobs, one at a time: runs/rank_lr/")
    assert len([line for line in lines if re.match(r"\d+ ", line)]) == 12
    assert lines[3].split()[:4] == ["0", "lora_r8", "0.002", "1"]
    assert lines[3].endswith("/0")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "word", "objective"),
    [
        ("train", "seed=1", "val/full_price/mape"),
        ("train", "objective=test/parse_rate", "test/parse_rate"),
        ("eval", "seed=1", "test/full_price/mape"),
        ("eval", "split=val", "val/full_price/mape"),
        ("eval", "objective=val/parse_rate", "test/parse_rate"),
    ],
)
def test_a_plan_knows_its_program_its_files_and_whose_figure_it_is(
    program: str, word: str, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = [f"{program}.py", "-m", word, "--config-dir", "mine", "hydra.verbose=true"]
    monkeypatch.setenv(TYPED, json.dumps(typed))
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = [word, "hydra.verbose=true"]
        plan = planned(compose(program, words, return_hydra_config=True))
    assert (plan.program, plan.objective) == (f"{program}.py", objective)
    assert plan.flags == ("--config-dir=mine",)
    assert plan.words == ("--config-dir=mine", *sorted(words))
    assert plan.jobs == ((word,),)


@pytest.mark.parametrize(("name", "fixed"), [("rank_lr", False), ("optuna", True)])
def test_a_plan_knows_whether_its_sweep_sets_something_for_all_jobs(
    name: str, fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TYPED, json.dumps(["train.py", "-m", f"sweep={name}"]))
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        plan = planned(compose("train", [f"sweep={name}"], return_hydra_config=True))
    assert plan.fixed is fixed


def test_a_setting_of_such_a_sweep_runs_alone(start: Start, here: Path) -> None:
    done = start("sweep=optuna", "experiment=lora_r16", "hydra.mode=RUN")
    assert done.returncode == 0, done.stderr
    [run] = here.glob("runs/lora_r16/*")
    assert Outcome.read(run) == Outcome("ok", 8.0)


@pytest.mark.parametrize(
    ("program", "words"),
    [("eval.py", ("seed=1,2",)), ("train.py", ("--config-dir=mine", "seed=1,2"))],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_sweep_of_another_program_or_other_files_is_not_gone_on_with(
    start: Start, here: Path, program: str, words: tuple[str, ...], more: list[str]
) -> None:
    jobs = (("seed=1",), ("seed=2",))
    SweepDirectory(here / "mine").begin(Plan(words, program, "val/full_price/mape", jobs, 2))
    before = (here / "mine" / "sweep.json").read_text()
    done = start("-m", "seed=1,2", "sweep_dir=mine", *more)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: mine: there is another sweep in it ({program} -m {' '.join(words)}); give another"
        " sweep_dir\n"
    )
    assert (here / "mine" / "sweep.json").read_text() == before


def test_a_sweep_is_found_again_by_the_files_it_is_composed_from(start: Start, here: Path) -> None:
    (here / "more").mkdir()
    folder = here / "runs" / "default" / "2026-01-01_00-00-00-000000_sweep"
    jobs, words = (("seed=1",), ("seed=2",)), ("--config-dir=more", "seed=1,2")
    SweepDirectory(folder).begin(Plan(words, "train.py", "val/full_price/mape", jobs, 2))
    same = start("-m", "seed=1,2", "--config-dir", "more", "--dry-run")
    assert same.stdout.startswith(f"sweep of 2 jobs, one at a time: {folder.relative_to(here)}\n")
    other = start("-m", "seed=1,2", "--dry-run")
    assert other.stdout.startswith("sweep of 2 jobs, one at a time: runs/default/")
    assert folder.name not in other.stdout


def test_a_dry_run_lists_what_the_start_would_list(start: Start, here: Path) -> None:
    sweep = SweepDirectory(here / "mine")
    jobs = (("adapter.r=8",), ("adapter.r=16",))
    sweep.begin(Plan(("adapter.r=8,16",), "train.py", "val/full_price/mape", jobs, 2))
    for number, words in enumerate(jobs):
        assert job_folder(sweep.path, number, words) == str(number)
    sweep.begin_job(sweep.path / "1")
    Outcome("ok", 8.0).write(sweep.path / "1")
    before = written(here)
    words = ("-m", "adapter.r=4,8,16,32", "sweep_dir=mine")
    shown = start(*words, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert written(here) == before
    *listed, last = shown.stdout.splitlines()
    assert listed[0] == "sweep of 4 jobs, one at a time: mine"
    assert [line.split() for line in listed[-4:]] == [
        *(["0", "8", "mine/0"], ["1", "16", "mine/1"]),
        *(["2", "4", "mine/2"], ["3", "32", "mine/3"]),
    ]
    assert last == "going on with this sweep: 1 of 4 jobs are done"


def written(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {
        file: (file.stat().st_mtime_ns, file.read_bytes())
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize(("event", "fails"), [("start", "planned"), ("end", "finish")])
def test_an_error_that_nobody_thought_of_ends_the_sweep_with_its_traceback(
    event: str,
    fails: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(callback, fails, fail)
    hydra = {"sweep": {"dir": str(tmp_path)}, "runtime": {"choices": {}}, "launcher": {}}
    with pytest.raises(SystemExit) as ended:  # Hydra only warns of others
        getattr(callback.Sweep(), f"on_multirun_{event}")(OmegaConf.create({"hydra": hydra}))
    assert ended.value.code == 1
    assert capsys.readouterr().err.rstrip().endswith("RuntimeError: a bug")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"plan": 1}'])
def test_a_sweep_whose_plan_is_broken_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UserError, match=r"sweep\.json: it cannot be read .* with sweep_dir="):
        SweepDirectory(tmp_path).plan()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep=rank_lr"], "sweep=rank_lr: that is for a sweep; add -m"),
        (["--dry-run"], "--dry-run lists the jobs of a sweep: add -m"),
        (["-m", "sweep=rank_lrr"], "did you mean 'rank_lr'?"),
        (["-m", "seed=1,2", "sweep_dir=a,b"], "hydra.sweep.dir"),
        (["-m", "sweep=rank_lr,optuna"], "sweep=rank_lr,optuna: a sweep has one of it"),
        (["-m", "optimizer.lr=interval(0,1)"], "does not support sweep type"),
        (["-m", "seed=1,2", "sweep_dir=file"], "file"),
        (["-m", "seed=1,2", "sweep_dir=run"], "run: there is a run in it"),
    ],
)
def test_a_sweep_that_is_none_is_refused(
    start: Start, here: Path, words: list[str], message: str
) -> None:
    (here / "file").touch()
    (here / "run").mkdir()
    (here / "run" / "config.yaml").touch()
    done = start(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_value_in_the_file_of_a_sweep_is_refused(start: Start, home: Path) -> None:
    file = home / "conf" / "sweep" / "rank_lr.yaml"
    file.write_text(file.read_text().replace("optimizer.lr", "optimizer.lrr"))
    done = start("-m", "sweep=rank_lr")
    assert done.returncode == 2
    assert "optimizer.lrr" in done.stderr
    assert "did you mean 'optimizer.lr'" in done.stderr
