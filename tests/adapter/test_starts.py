"""Adapters that start from the weights start alike on any number of threads, and load alike."""

from pathlib import Path

import pytest
import torch

from phi3v.adapter import LoraAdapter, load_adapter, save_adapter
from phi3v.model import Checkpoint

TINY = Path(__file__).parents[2] / "assets" / "tiny"
SCOPE = ["decoder", "projector", "vision"]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def started(init, seed=1):
    """All weights of the tiny model with an adapter as it starts."""
    base = Checkpoint(str(TINY)).load().model
    torch.manual_seed(seed)
    return LoraAdapter(r=16, alpha=32, init=init, scope=SCOPE).attach(base)


@pytest.mark.parametrize("init", ["pissa", "olora", "pissa_niter_4"])
def test_the_start_does_not_depend_on_the_threads_that_compute_it(threads, init):
    threads(1)
    alone = started(init).state_dict()
    threads(2)
    together = started(init).state_dict()
    different = [name for name in alone if not torch.equal(alone[name], together[name])]
    assert different == []


@pytest.mark.parametrize("init", ["pissa", "olora", "pissa_niter_4"])
def test_a_loaded_adapter_leaves_the_base_that_it_was_trained_on(tmp_path, init):
    model = started(init)
    save_adapter(model, tmp_path)
    torch.manual_seed(99)  # whoever loads it has drawn other numbers before
    loaded = load_adapter(Checkpoint(str(TINY)).load().model, tmp_path)
    state = loaded.state_dict()
    different = [n for n, one in model.state_dict().items() if not torch.equal(one, state[n])]
    assert different == []


def test_torch_decomposes_as_before_afterwards():
    before = torch.linalg.svd, torch.linalg.qr
    started("pissa")
    assert (torch.linalg.svd, torch.linalg.qr) == before
