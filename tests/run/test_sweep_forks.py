"""The jobs of a sweep on the CPU are forks of one process that has imported everything."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from phi3v.run.sweep.nursery import can_fork


@pytest.mark.slow
def test_jobs_of_one_process_on_the_cpu_have_one_parent_beside_the_sweep(
    start: Callable, home: Path, here: Path, begins_with: Callable[..., None]
) -> None:
    program = home / "train.py"
    lines = [
        "import os",
        "from pathlib import Path",
        "from phi3v.run.sweep.nursery import PRELOAD",
        'PRELOAD["small_program:train"] = "json"',
        'Path(__file__).with_name(f"pid_{os.getpid()}").touch()  # of the sweep, and of each job',
    ]
    program.write_text("\n".join([*lines, program.read_text()]))
    begins_with('(run / "parent").write_text(str(os.getppid()))')
    ended = start("-m", "adapter.r=4,8")
    assert ended.returncode == 0, ended.stderr
    [first, second] = [file.read_text() for file in here.rglob("parent")]
    assert first == second
    programs = {file.name.partition("_")[2] for file in home.glob("pid_*")}
    assert len(programs) == 3
    assert first not in {*programs, str(os.getpid())}


def test_only_what_is_one_process_on_the_cpu_is_forked() -> None:
    alone = {"accelerator": "cpu", "devices": 1, "num_nodes": 1}
    for other, program, forked in (
        ({}, "phi3v.run:train", True),
        ({}, "phi3v.run:evaluate", True),
        ({}, "another:train", False),
        ({"accelerator": "gpu"}, "phi3v.run:train", False),
        ({"devices": 2}, "phi3v.run:train", False),
        ({"num_nodes": 2}, "phi3v.run:train", False),
    ):
        cfg = OmegaConf.create({"trainer": {**alone, **other}})
        assert can_fork(cfg, program) is forked, (other, program)
