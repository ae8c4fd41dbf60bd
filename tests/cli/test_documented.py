"""Every command of `phi3v` that README.md and docs/ show is run as it stands there."""

import re
import shlex
import shutil
from pathlib import Path

from phi3v.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = re.compile(r"runs/lora_r16/[\d_-]+")


def commands() -> list[list[str]]:
    """The words behind `phi3v` in the indented blocks of all pages, in their order."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line.split("   #")[0] for line in text.splitlines()]
        found += [shlex.split(line)[1:] for line in lines if line.startswith("    phi3v ")]
    return found


def test_the_documented_commands_do_what_they_say(phi3v, lora_run, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(pictures[1], "photo.jpg")
    shutil.copytree(pictures[0].parent, "photos")
    shown = [words for words in commands() if words[0] in ("predict", "export")]
    assert {words[0] for words in shown} == {"predict", "export"}
    for words in shown:
        ended = phi3v(*(RUN.sub(str(lora_run), word) for word in words))
        assert ended.status == 0, f"{words}: {ended.err}"
    assert (tmp_path / "my-model" / "model.safetensors").is_file()


def test_every_command_that_is_shown_exists():
    assert {words[0] for words in commands()} <= COMMANDS.keys()
