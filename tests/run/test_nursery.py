"""A job that is a fork is what it would be in an interpreter of its own."""

import json
import os
import subprocess
import sys

import pytest

from phi3v.run.lock import held_with_heirs
from phi3v.run.sweep.nursery import ForkedJob

SCRIPT = """
import json, multiprocessing, os, sys
from pathlib import Path

told = {
    "words": sys.argv[1:],
    "folder": os.getcwd(),
    "path": sys.path[0],
    "name": __name__,
    "variable": os.environ.get("MINE"),
    "inherited": os.environ.get("THEIRS"),
    "workers": multiprocessing.get_start_method(),
}
Path(sys.argv[1]).write_text(json.dumps(told))
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THEIRS", "of the sweep")
    return tmp_path / "program.py"


def test_it_sees_what_a_new_interpreter_would_see(script, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "THEIRS"}
    environment["MINE"] = "of the job"
    told = []
    for name in ("forked", "fresh"):
        command = [sys.executable, str(script), str(tmp_path / name), "seed=8"]
        if name == "forked":
            with held_with_heirs(tmp_path) as lock:
                assert ForkedJob(command, environment, preload="json", lock=lock).wait(60) == 0
        else:
            subprocess.run(command, env=environment, check=True, timeout=60)
        told.append({**json.loads((tmp_path / name).read_text()), "words": command[3:]})
    assert told[0] == told[1]
    assert told[0]["variable"] == "of the job"
    assert told[0]["inherited"] is None


def test_it_holds_its_directory_as_long_as_it_lives(script, tmp_path):
    script.write_text("import time; time.sleep(60)")
    with held_with_heirs(tmp_path) as lock:
        job = ForkedJob([sys.executable, str(script)], os.environ, preload="json", lock=lock)
    try:
        with pytest.raises(BlockingIOError), held_with_heirs(tmp_path, wait=False):
            pass
    finally:
        job.kill()
        job.wait(10)
    with held_with_heirs(tmp_path, wait=False):
        pass
