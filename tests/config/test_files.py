"""Every file under conf/: it composes, it is explained, and it fits the constructor it names."""

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

from phi3v.config.composing import check_command_line
from phi3v.config.gate import ROOMS, THIRD_PARTY
from phi3v.config.signatures import FORWARDS, read_constructor

from .conftest import ROOT, heavy_imports

CONF = ROOT / "conf"
GROUPS = {
    *("model", "adapter", "task", "data", "optimizer", "scheduler", "trainer", "callbacks"),
    *("logger", "experiment", "debug", "paths", "local"),
}
CHOICES = [(file.parent.name, file.stem) for file in sorted(CONF.glob("*/*.yaml"))]
EXPERIMENTS = [choice for group, choice in CHOICES if group == "experiment"]


def targets(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["_target_"]] if "_target_" in value else []
        return own + [target for item in value.values() for target in targets(item)]
    return []


def target_of(group: str, choice: str) -> list[str]:
    return targets(yaml.safe_load((CONF / group / f"{choice}.yaml").read_text(encoding="utf-8")))


def test_there_are_exactly_the_groups_that_the_help_speaks_of() -> None:
    assert {path.name for path in CONF.iterdir() if path.is_dir()} >= GROUPS
    assert set(EXPERIMENTS) >= {
        *("lora_r8", "lora_r16", "lora_r64", "dora_r16", "full", "pretrain_tiny"),
    }


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_file_composes_and_fits_its_constructor(group: str, choice: str) -> None:
    check_command_line(CONF, "train", [f"{group}={choice}"], "train", allow_missing=True)


@pytest.mark.parametrize("trainer", ["cpu", "gpu", "ddp"])
def test_the_full_size_recipe_composes_on_every_trainer(trainer: str) -> None:
    words = ["experiment=lora_r16", "model=phi3_vision", "data=burberry", f"trainer={trainer}"]
    check_command_line(CONF, "train", words, "train")


@pytest.mark.parametrize("group", ["model", "task", "data", "trainer"])
def test_every_choice_composes_for_the_evaluation_too(group: str) -> None:
    for choice in [choice for of, choice in CHOICES if of == group]:
        check_command_line(CONF, "eval", [f"{group}={choice}"], "eval", allow_missing=True)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_prints_its_configuration_cheaply(program, experiment: str) -> None:
    done = program("train.py", f"experiment={experiment}", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    printed = yaml.safe_load(done.stdout)
    assert printed["model"]["_target_"].startswith("phi3v.model.")
    assert heavy_imports(done.stderr) == []


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_opens_with_the_command_that_runs_it(experiment: str) -> None:
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# python train.py experiment={experiment}")


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_says_what_it_is_in_its_first_lines(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    words = [line for line in lines[:3] if line.startswith("# ") and "@package" not in line]
    assert words
    assert "\t" not in "".join(lines)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_a_group_names_classes_of_its_own_room(group: str, choice: str) -> None:
    for target in target_of(group, choice):
        ours = target.startswith(f"phi3v.{ROOMS.get(group, 'nowhere')}.")
        assert ours or target in THIRD_PARTY.get(group, set())


def test_signatures_read_from_source_are_the_real_ones() -> None:
    named = {target for group, choice in CHOICES for target in target_of(group, choice)}
    for target in sorted(named | {name for names in THIRD_PARTY.values() for name in names}):
        module, _, name = target.rpartition(".")
        real = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        named_ones = {key for key, of in real.items() if of.kind != inspect.Parameter.VAR_KEYWORD}
        if target in FORWARDS:
            of, function = FORWARDS[target]
            real = {
                **inspect.signature(getattr(importlib.import_module(of), function)).parameters,
                **real,
            }
            named_ones |= real.keys() - {"kwargs"}
        read = read_constructor(target).parameters
        assert set(read) == named_ones, target
        for key, parameter in read.items():
            assert parameter.required == (real[key].default is inspect.Parameter.empty), target


def test_no_experiment_changes_what_makes_runs_comparable() -> None:
    for experiment in EXPERIMENTS:
        file = CONF / "experiment" / f"{experiment}.yaml"
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert not {"seed", "batch_size", "objective"} & content.keys() or "pretrain" in experiment
