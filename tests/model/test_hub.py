"""A checkpoint by its hub id, fetched by the real client from a hub on this machine."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from damaged import edit
from loopback_hub import COMMIT, LoopbackHub

pytestmark = pytest.mark.slow  # programs that load the libraries
NAME = "somebody/small"
OTHER = "somebody/other"
ABSENT = "c45209e90a4c4f7d16b2e9d48503c7f3e83623ed"
# Several in one go: it is the imports that take long.
PROGRAM = """
import sys
from phi3v.errors import UserError
from phi3v.model import Checkpoint
for word in sys.argv[1:]:
    name, _, revision = word.partition("@")
    try:
        loaded = Checkpoint(name, revision=revision).load()
    except UserError as error:
        print(f"refused: {error}")
        continue
    count = sum(value.numel() for value in loaded.model.parameters())
    print(type(loaded.model).__module__, loaded.model.name_or_path, count)
"""


@pytest.fixture
def hub(folder, tmp_path):
    (folder / "modeling_phi3_v.py").write_text("raise SystemExit('remote code ran')\n")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"an adapter")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling_phi3_v.A"}
    (folder / "config.json").write_text(json.dumps(config))
    other = shutil.copytree(folder, tmp_path / "other")
    edit(other / "config.json", vocab_size=100)
    with LoopbackHub({NAME: folder, OTHER: other}) as one:
        yield one


def load(*words, env):
    """What is said of each `name@revision`."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_commit_is_fetched_once_and_without_code_or_pickles(hub, tmp_path, scratch_model):
    env = hub.client_env(tmp_path / "home")
    done = load(f"{NAME}@{COMMIT}", env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    count = sum(value.numel() for value in scratch_model.model.parameters())
    assert done.stdout.strip() == f"phi3v.model.modeling {NAME} {count}"
    names = {file for file, _ in hub.fetched}
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= names
    assert not any(name.endswith((".py", ".bin")) or name.startswith("adapter") for name in names)
    assert {revision for _, revision in hub.fetched} == {COMMIT}
    assert not hub.unknown
    hub.fetched.clear()
    again = load(f"{NAME}@{COMMIT}", env={**env, "HF_HUB_OFFLINE": "1"})
    assert again.stdout == done.stdout
    assert not hub.fetched


def test_what_is_not_there_or_does_not_fit_is_told_before_weights_are_fetched(hub, tmp_path):
    done = load(f"{NAME}@{ABSENT}", f"{OTHER}@{COMMIT}", env=hub.client_env(tmp_path / "home"))
    absent, misfit = done.stdout.splitlines()
    assert absent.startswith(f"refused: {NAME} has no revision {ABSENT}")
    assert "; set model.revision to one of its own, or to null" in absent
    assert misfit.startswith(f"refused: {OTHER}: tokenizer.json has ")
    names = {file for file, _ in hub.fetched}
    assert "tokenizer.json" in names
    assert not any(name.endswith(".safetensors") for name in names)


def test_a_hub_that_does_not_answer_is_told(tmp_path):
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = load(f"{NAME}@main", env=env)
    (line,) = done.stdout.splitlines()
    assert line.startswith("refused: somebody/small: no such folder here, and at revision main it")
    assert done.stderr == ""
