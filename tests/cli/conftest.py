"""The program in this process, a run to give it, and pictures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from made_run import make_run
from PIL import Image

from phi3v.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON objects of its output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(scope="session")
def lora_run(tmp_path_factory):
    """A run with a LoRA on the decoder."""
    return make_run(tmp_path_factory.mktemp("runs") / "lora", "adapter.r=4")


@pytest.fixture
def phi3v(capsys) -> Callable[..., Ended]:
    """What runs the program in this process."""

    def call(*words: object) -> Ended:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Ended(status, *capsys.readouterr())

    return call


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of different shapes and colours in a folder of their own."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size, colour in (
        ("a.png", (96, 96), "red"),
        ("b.jpg", (200, 60), "navy"),
        ("c.png", (50, 150), "white"),
    ):
        Image.new("RGB", size, colour).save(folder / name)
    return sorted(folder.iterdir())


def export(phi3v: Callable[..., Ended], run: Path, out: Path, *words: str) -> Ended:
    """Merge a run, which has nothing to complain of."""
    ended = phi3v("export", run, "--merge", out, *words)
    assert ended.status == 0, ended.err
    assert ended.err == ""
    return ended
