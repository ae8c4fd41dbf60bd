"""Every command that README.md and docs/ show makes a valid configuration."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from phi3v.config.composing import check_command_line
from phi3v.config.sweeps import sweep_words

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """The command lines of train.py in the indented blocks of a page, flags and launchers off."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split("   #")[0] for line in text.splitlines() if line.startswith("    ")]
    found = [re.search(r"(?:^|[ &])(?:python )?train\.py (.*)", line) for line in lines]
    return [match[1] for match in found if match]


FOUND = [(page.name, command) for page in PAGES for command in commands(page)]


def test_there_are_commands_on_every_page() -> None:
    assert {name for name, _ in FOUND} == {page.name for page in PAGES}
    assert len(FOUND) > 25


@pytest.mark.parametrize(("page", "command"), FOUND)
def test_it_composes(page: str, command: str) -> None:
    words = shlex.split(command)
    overrides = [word for word in words if not word.startswith("-") and "run=runs/" not in word]
    overrides = [word for word in overrides if word.partition("=")[0] != "sweep_dir"]
    overrides = [word for word in overrides if word.partition("=")[0] != "optimiser.lr"]
    check_command_line(
        ROOT / "conf", "train", overrides, config_name="train", multirun="-m" in words
    )
    assert all("=" in word for word in sweep_words(overrides))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_the_benchmark_of_the_full_size_sets_is_there_to_be_set(device: str) -> None:
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "full_size.py"))
    words = [*benchmark["BASE"], "model.path=big"]
    words += [word for setting in benchmark["SETTINGS"][device].values() for word in setting]
    last = {word.partition("=")[0]: word for word in words}  # in one go: a key has but one value
    check_command_line(ROOT / "conf", "train", [*last.values()], config_name="train")
