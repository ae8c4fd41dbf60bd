"""What agents of W&B run: every file's parameters make a configuration, and its metric is ours."""

from pathlib import Path

import pytest
import yaml

from phi3v.config.composing import check_command_line
from phi3v.task import direction

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "agent").glob("*.yaml"))


def ends(parameter: dict) -> list[object]:
    """Values of a parameter: all it may have, or the ends of its range."""
    return parameter.get("values") or [parameter["min"], parameter["max"]]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def sweep(request) -> dict:
    return yaml.safe_load(request.param.read_text(encoding="utf-8"))


def test_there_are_files_for_all_ways_of_searching() -> None:
    assert {file.stem for file in FILES} == {"grid", "random", "bayes"}
    for file in FILES:
        assert yaml.safe_load(file.read_text())["method"] == file.stem
        assert (ROOT / yaml.safe_load(file.read_text())["program"]).is_file()


def test_all_of_its_values_make_a_configuration(sweep) -> None:
    literal = [word for word in sweep["command"] if "=" in word]
    for name, parameter in sweep["parameters"].items():
        for value in ends(parameter):
            plain = check_command_line(
                ROOT / "conf", "train", [*literal, f"{name}={value}"], config_name="train"
            ).plain
            assert sweep["metric"]["name"] == plain["objective"]
            assert plain["logger"]["offline"] is False


def test_its_goal_is_the_direction_of_its_metric(sweep) -> None:
    assert sweep["metric"]["goal"] == f"{direction(sweep['metric']['name'])}imize"


def test_its_command_takes_values_as_hydra_reads_them(sweep) -> None:
    assert sweep["command"][:3] == ["${env}", "python", "${program}"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    assert "-m" not in sweep["command"]
