"""A wrong command line is refused in one line, with the nearest right word, before torch loads."""

import re
import signal
from pathlib import Path

import pytest
import yaml
from started import to_its_end

from phi3v.config.composing import check_command_line
from phi3v.config.front_door import _place, read_arguments
from phi3v.config.overrides import alternatives, read_overrides, without_null
from phi3v.config.sweeps import mode_as_flag
from phi3v.errors import UserError

from .conftest import ROOT, heavy_imports, messages

WRONG = {
    "optimizer.lrr=1": "unknown key 'optimizer.lrr' (did you mean 'optimizer.lr'?)",
    "+optimizer.lrr=1": "unknown key 'optimizer.lrr' (did you mean 'optimizer.lr'?)",
    "++optimizer.lrr=1": "unknown key 'optimizer.lrr' (did you mean 'optimizer.lr'?)",
    "optimizr.lr=1": "unknown key 'optimizr.lr' (did you mean 'optimizer.lr'?)",
    "lr=1": "unknown key 'lr' (did you mean 'optimizer.lr'?)",
    "modle=tiny": "unknown key 'modle' (did you mean 'model'?)",
    "experimnt=lora_r8": "unknown key 'experimnt' (did you mean 'experiment'?)",
    "optimizer.parts.visoin.lr=1": "(did you mean 'optimizer.parts.vision.lr'?)",
    "+optimizer.parts.vision.lrr=1": "(did you mean 'optimizer.parts.vision.lr'?)",
    "+data.splits.tets=0.1": "(did you mean 'data.splits.test'?)",
    "~trainer.devicez": "unknown key 'trainer.devicez' (did you mean 'trainer.devices'?)",
    "hydra.run.dirr=x": "unknown key 'hydra.run.dirr' (did you mean 'hydra.run.dir'?)",
    "+paths.asets=x": "unknown key 'paths.asets' (did you mean 'paths.assets'?)",
    "data.path=x.csv": "unknown key 'data.path' with data=catalogue; it is one of data=burberry",
    "trainer.barebones=true": "add it with +trainer.barebones=true",
    "experiment=lora_r17": "unknown choice 'lora_r17' for group 'experiment'; did you mean 'lora_r",
    "trainer=tpu": "unknown choice 'tpu' for group 'trainer'; did you mean 'gpu'? There are: cpu,",
    "hydra/launcher=sbatch": "unknown choice 'sbatch' for group 'hydra/launcher'",
    "optimizer.lr=abc": "optimizer.lr=abc: expected number",
    "optimizer.lr=": "optimizer.lr=: expected number",
    "optimizer.lr=null": "optimizer.lr=null: expected number",
    "optimizer.parts.vision.lr=abc": "optimizer.parts.vision.lr=abc: expected number",
    "seed=1.5": "seed=1.5: expected whole number",
    "seed=true": "seed=true: expected whole number",
    "name=7": "name=7: expected text; write name='\"7\"'",
    "adapter.scope=decoder": "expected a list of text; write adapter.scope=[decoder]",
    "model.merge=runs/a": "model.merge=runs/a: expected a list of text; write model.merge=[runs/a]",
    "tags=7": "tags=7: expected a list of text; write tags='[\"7\"]'",
    "adapter.use_dora=1": "adapter.use_dora=1: expected true or false",
    "trainer.max_epochs=three": "trainer.max_epochs=three: expected whole number or null",
    "data.source=abc": "data.source=abc: expected Source",
    "task.fields=[a]": "task.fields=[a]: expected a mapping with keys like title",
    "data.batch_size=5": "batch_size=8 cannot be made of steps of 5 examples",
    "trainer.devices=3": "batch_size=8 cannot be divided over 3 devices",
    "trainer.devices=auto": "trainer.devices=auto: give a number of devices",
    "data=csv": "data.path is required: data=csv data.path=PATH",
    "data.source.rows=3": "unknown key 'data.source.rows': it is data.rows here",
    "+data.source.rows=3": "data.rows and data.source.rows are the same thing: set one of them",
    "~optimizer.lr": "optimizer.lr is missing: phi3v.optim.AdamW needs it",
    "~model.path": "model.path is missing: phi3v.model.Checkpoint needs it",
    "+data.task=x": "unknown key 'data.task'",
    "adapter=lora,full": "adapter=lora,full has several values: add -m",
    "lr": "cannot read 'lr': write key=value",
    "a b=[1": "cannot read 'a b=[1': write key=value",
    "adapter._target_=torch.load": "adapter._target_=torch.load is not allowed",
    "adapter._target_=phi3v.task.Task": "does not belong into the group 'adapter'",
    "+adapter._partial_=true": "adapter._partial_ is not supported",
    "+extra=1": "unknown key 'extra'",
    "model=null": "unknown choice 'null' for group 'model'. There are: phi35_vision, phi3_vision,",
    "hydra/launcher=null": "unknown choice 'null' for group 'hydra/launcher'. There are: basic",
    "~optimizer": "optimizer is missing: it cannot be left out or deleted",
    "~scheduler": "scheduler is missing: it cannot be left out or deleted",
    "~callbacks": "callbacks is missing: write callbacks=none",
    "~logger": "logger is missing: write logger=none",
    "logger=[]": "logger is missing: write logger=none",
    "~adapter": "adapter is missing: write adapter=none",
    "~model": "model is missing: it cannot be left out or deleted",
    "~seed": "seed is missing: it cannot be left out or deleted",
    "~name": "name is missing: it cannot be left out or deleted",
    "~objective": "objective is missing: it cannot be left out or deleted",
    "~paths.cache": "paths.cache is missing: it cannot be left out or deleted",
    "batch_size=abc": "batch_size=abc: expected whole number",
    "batch_size=[1]": "batch_size=[1]: expected whole number",
    "batch_size=null": "batch_size=null: expected whole number",
    "batch_size=0": "batch_size=0: give a whole number of at least 1",
    "data.batch_size=abc": "data.batch_size=abc: expected whole number",
    "data.batch_size=0": "data.batch_size=0: give a whole number of at least 1",
    "trainer.num_nodes=x": "trainer.num_nodes=x: expected whole number",
    "trainer.num_nodes=0": "trainer.num_nodes=0: give a whole number of at least 1",
    "model.learning_rate=3": "model.learning_rate=3: expected a mapping",
    "adapter.scope=[1]": "adapter.scope.0=1: expected text",
    "optimizer.betas=[0.9,abc]": "optimizer.betas.1=abc: expected number",
    "trainer.precision=bf17": "trainer.precision=bf17: expected bf16 or bf16-true or bf16-mixed or",
    "+experimnt=lora_r16": "unknown key 'experimnt' (did you mean 'experiment'?)",
    "seed=-1": "seed=-1: from 0 to 4294967295",
    "seed=4294967296": "seed=4294967296: from 0 to 4294967295",
    "max_new_tokens=0": "max_new_tokens=0: at least 1",
    "max_skipped_steps=-1": "max_skipped_steps=-1: at least 0",
    "optimizer.lr=-1e-3": "optimizer.lr=-0.001: not below zero",
    "trainer.gradient_clip_val=None": "or null; write trainer.gradient_clip_val=null",
    "optimizer.weight_decay=-1": "optimizer.weight_decay=-1: not below zero",
    "trainer.limit_test_batches=0": "trainer.limit_test_batches=0: a run ends with what its test",
    "trainer.limit_test_batches=0.0": "trainer.limit_test_batches=0.0: a run ends with what its",
    "run=": "run=: empty; give the directory of a run, or run=null for none",
    "run=' '": "empty; give the directory of a run",
    "+experiment=lora_r16": "+experiment=lora_r16: write it without the +",
}


@pytest.mark.parametrize("word", WRONG)
def test_a_wrong_word_is_answered_with_the_right_one(conf: Path, word: str) -> None:
    with pytest.raises(UserError) as caught:
        check_command_line(conf, "train", [word], "train")
    assert WRONG[word] in str(caught.value).replace("=True", "=true")
    assert "\n" not in str(caught.value)
    assert not str(caught.value).startswith("conf/")  # the command line is at fault, not a file


@pytest.mark.parametrize(
    "words",
    [
        ["data=csv", "data.path=a.csv", "data.group_by=[title]", "data.on_error=skip"],
        ["data=csv", "data.path='a b, c=d.csv'", "data.columns={full_price: price}"],
        ["data.rows=100", "data.source.seed=3", "optimizer.lr=1", "+trainer.barebones=true"],
        ["trainer=ddp", "trainer.devices=[0,1,2,3]", "data.batch_size=2"],
        ["adapter.scope=[decoder,vision]", "optimizer.parts.vision.lr=1e-5", "seed=1"],
        ["adapter=none", "debug=step", "logger=wandb", "logger.offline=false", "name=mine"],
        ["seed=0", "max_new_tokens=1", "optimizer.lr=0", "trainer.limit_test_batches=0.001"],
        ["trainer.limit_test_batches=null", "optimizer.weight_decay=0", "seed=4294967295"],
        ["hydra.run.dir=elsewhere", "callbacks.progress.seconds=1", "~callbacks.samples"],
    ],
)
def test_what_is_right_passes(conf: Path, words: list[str]) -> None:
    check_command_line(conf, "train", words, "train")


def test_a_sweep_is_checked_in_all_its_values(conf: Path) -> None:
    for words, fault in [
        (["adapter=lora,ful"], "unknown choice 'ful'"),
        (["optimizer.lr=1,x", "adapter.r=choice(1,2)"], "optimizer.lr=x: expected number"),
        (["seed=range(1,3)", "adapter.r=4,8.5"], "adapter.r=8.5: expected whole number"),
        (["seed=7,-1"], "seed=-1: from 0 to"),
        (["optimizer.lr=interval(-1,1)"], "optimizer.lr=-1.0: not below zero"),
        (["experiment=glob(zzz*)"], "there is nothing that it stands for"),
        (["seed=1,2", "adapter.r=range(5,5)"], "=range(5,5): there is nothing that it stands for"),
        (["+hydra.sweeper.params.seed='1,2'"], "='1,2': there is no sweep=NAME to which"),
        (["hydra.sweeper.params={seed:'1,2'}"], "}: there is no sweep=NAME to which"),
    ]:
        with pytest.raises(UserError, match=re.escape(fault)):
            check_command_line(conf, "train", words, "train", multirun=True)
    good = ["experiment=lora_r8", "optimizer.lr=interval(0.1,1)", "seed=range(1,3)"]
    good.append("trainer=glob(*pu)")
    check_command_line(conf, "train", good, "train", multirun=True)


def test_words_that_do_not_go_together_are_refused_whichever_job_has_them(conf: Path) -> None:
    words = ["batch_size=8,12", "data.batch_size=4,8"]
    fault = r"^batch_size=12 cannot be made of steps of 8 examples \(data\.batch_size=8 x"
    with pytest.raises(UserError, match=fault):
        check_command_line(conf, "train", words, "train", multirun=True)


def test_a_sweep_of_many_jobs_is_checked_with_few_compositions() -> None:
    words = read_overrides(["a=range(0,50)", "b=range(0,50)", "c=1"])
    lists = list(alternatives(words))
    assert len(lists) == 99  # not 2,500
    assert ["a=49", "b=0", "c=1"] in lists


def test_null_on_the_command_line_means_without_where_a_group_has_that(conf: Path) -> None:
    words = ["logger=null", "callbacks=null", "experiment=null", "debug=Null", "local=null"]
    said = without_null(words, conf)
    assert said == ["logger=none", "callbacks=none", "~experiment", "~debug", "~local"]
    check_command_line(conf, "train", said, "train")
    others = ["model=null", "seed=null", "experiment=", "experiment=full", "~debug", "tags=[null]"]
    assert without_null(others, conf) == others


def test_a_group_is_set_to_null_as_in_other_templates(program) -> None:
    words = ["logger=null", "--cfg", "job", "experiment=null", "callbacks=null", "name=a"]
    done = program("train.py", *words)
    assert done.returncode == 0, messages(done.stderr)
    printed = yaml.safe_load(done.stdout)
    assert (printed["logger"], printed["callbacks"], printed["name"]) == ({}, {}, "a")


def test_flags_and_overrides_may_come_in_any_order() -> None:
    arguments = read_arguments(["seed=1", "--cfg", "job", "adapter.r=4"])
    assert arguments.overrides == ["seed=1", "adapter.r=4"]
    assert arguments.cfg == "job"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--lr", "3"], "unrecognized arguments: --lr"),
        (["-m", "--cfg", "job"], "exclude each"),
        (["-m", "seed=1,2", "--dry"], "unrecognized arguments: --dry "),
    ],
)
def test_wrong_flags_are_refused_in_one_line(words: list[str], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        read_arguments(words)


@pytest.mark.parametrize(
    "word",
    [
        *("sweep_dir=", "hydra.run.dir=", "hydra.sweep.dir=", "hydra.sweep.subdir="),
        *("hydra.run.dir=''", "hydra.run.dir=' '", "++hydra.run.dir=", "hydra.run.dir=null"),
    ],
)
def test_a_directory_without_a_name_is_no_directory(word: str) -> None:
    with pytest.raises(UserError) as caught:
        _place(read_arguments(["-m", "seed=1,2", word]))
    assert str(caught.value) == f"{word}: empty; give a directory, or leave the word out"


def test_a_run_whose_directory_has_no_name_is_refused_before_anything(
    program, tmp_path: Path
) -> None:
    done = program("train.py", "hydra.run.dir=")
    assert done.returncode == 2
    assert messages(done.stderr) == [
        "error: hydra.run.dir=: empty; give a directory, or leave the word out"
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_variable_that_is_not_set_is_no_run_and_null_is_none(program, tmp_path: Path) -> None:
    done = program("eval.py", "run=")
    assert done.returncode == 2
    assert messages(done.stderr) == [
        "error: run=: empty; give the directory of a run, or run=null for none"
    ]
    assert list(tmp_path.iterdir()) == []
    done = program("eval.py", "run=null", "--cfg", "job")
    assert done.returncode == 0, messages(done.stderr)
    assert yaml.safe_load(done.stdout)["run"] is None


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_a_refusal_is_one_line_costs_nothing_and_leaves_nothing(
    program, script: str, tmp_path: Path
) -> None:
    done = program(script, "adapter.rr=1" if script == "train.py" else "model=tinny")
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = messages(done.stderr)
    assert line.startswith("error: unknown ")
    assert "did you mean" in line
    assert heavy_imports(done.stderr) == []
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_a_library_ends_says_in_which_line_that_was(tmp_path: Path) -> None:
    started = f"enter(os.abort, {str(ROOT / 'train.py')!r}, 'train')"
    program = f"import os; from phi3v.config.front_door import enter; {started}"
    status, _, said = to_its_end("-c", program, cwd=tmp_path)
    assert status == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in said
    assert 'front_door.py", line ' in said


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_help_names_every_choice_and_costs_nothing(program, conf: Path, script: str) -> None:
    done = program(script, "--help")
    assert done.returncode == 0
    assert heavy_imports(done.stderr) == []
    assert done.stdout.count(f"python {script}") >= 3
    groups = ["model", "task", "data", "trainer"]
    groups += ["adapter", "experiment", "logger", "debug"] if script == "train.py" else []
    for group in groups:
        for file in (conf / group).glob("*.yaml"):
            [line] = [
                line
                for line in done.stdout.splitlines()
                if f" {file.stem} " in f"{line[:25]} " and line.startswith("  ") and len(line) > 27
            ][:1]
            assert line[26:].strip()
    assert "* tiny " in done.stdout


@pytest.mark.parametrize("word", ["hydra.mode=MULTIRUN", "++hydra.mode=MULTIRUN"])
def test_hydras_word_for_a_sweep_is_its_flag(word: str) -> None:
    arguments = read_arguments([word, "seed=1,2"])
    assert mode_as_flag(arguments) == ["--multirun"]
    assert arguments.multirun
    assert arguments.overrides == ["seed=1,2"]


@pytest.mark.parametrize("words", [["-m", "seed=1,2"], ["hydra.mode=RUN", "seed=1"], ["seed=1"]])
def test_no_flag_is_added_without_that_word(words: list[str]) -> None:
    arguments = read_arguments(words)
    given = list(arguments.overrides)
    assert mode_as_flag(arguments) == []
    assert arguments.multirun == ("-m" in words)
    assert arguments.overrides == given
