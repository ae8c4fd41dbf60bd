"""Loading a checkpoint takes little more memory than its weights have bytes."""

import gc
import json
import multiprocessing
from pathlib import Path

import pytest
import torch

from phi3v.model import Checkpoint
from phi3v.model.stand_in import make_checkpoint

TINY = Path(__file__).parents[2] / "assets" / "tiny"
LARGER = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8}
# A process of its own, in which torch and its company are there already.
FORK = multiprocessing.get_context("fork")


def resident(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at the most since it was forked."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


def load(folder, dtype, line):
    Checkpoint(str(TINY), dtype="bfloat16").load()  # imports what is imported at the first time
    gc.collect()
    before = resident("VmRSS")
    loaded = Checkpoint(str(folder), dtype=dtype).load()
    peak = resident("VmHWM") - before
    for weight in loaded.model.parameters():  # by now they have come out of their files
        weight.sum()
    line.send((peak, resident("VmHWM") - before))


@pytest.mark.slow
def test_the_peak_of_loading_is_at_most_so_much_above_the_size(tmp_path):
    like, folder = tmp_path / "like", tmp_path / "folder"
    like.mkdir()
    for file in TINY.glob("*.json"):
        content = json.loads(file.read_text())
        changed = LARGER if file.name == "config.json" else {}
        (like / file.name).write_text(json.dumps({**content, **changed}))
    made = make_checkpoint(like, folder, dtype=torch.bfloat16, max_shard_size="100MB")
    assert 2.5e8 < made.size < 3e8
    assert len(made.files) > 2
    here, there = FORK.Pipe()
    process = FORK.Process(target=load, args=(folder, "bfloat16", there))
    process.start()
    there.close()
    peak, used = here.recv()
    process.join()
    assert peak <= 1.15 * made.size
    assert 0.9 * made.size < used <= 1.15 * made.size  # it is these weights that were measured
