"""Loading a checkpoint takes little more memory than its weights have bytes."""

import ctypes
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
    """Bytes of this process: VmRSS now, VmHWM at the most since ``forget_the_peak``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


def forget_the_peak() -> None:
    """Have the kernel count VmHWM anew, from a heap that holds nothing that is free."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def load(folder, dtype, line):
    # Whatever a first loading imports, or gives back of what hundreds of tests before
    # this one have left in the process that was forked, is not this loading's.
    Checkpoint(str(folder), dtype=dtype).load()
    forget_the_peak()
    before = resident("VmRSS")
    loaded = Checkpoint(str(folder), dtype=dtype).load()
    peak = resident("VmHWM") - before
    weights = 0
    for weight in loaded.model.parameters():
        weight.sum()  # by now it has come out of its file
        weights += weight.nbytes
    line.send((peak, resident("VmHWM") - before, weights))


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
    peak, used, weights = here.recv()
    process.join()
    assert weights == made.size  # it is these weights that were measured
    # No lower bound: the kernel may take pages of a file back, whoever has them mapped.
    assert peak <= 1.15 * made.size
    assert used <= 1.15 * made.size
