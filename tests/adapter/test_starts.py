"""Adapters that start from the weights start alike on any number of threads, and load alike."""

import os
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import layer as peft_layer

from phi3v.adapter import LoraAdapter, load_adapter, save_adapter
from phi3v.adapter.starts import repeatable_starts
from phi3v.model import Checkpoint

# `PHI3V_TEST_DEVICE=cuda pytest tests/adapter/test_starts.py` holds a GPU to the CPU's starts.
DEVICE = os.environ.get("PHI3V_TEST_DEVICE", "cpu")
TINY = Path(__file__).parents[2] / "assets" / "tiny"
SCOPE = ["decoder", "projector", "vision"]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def started(init, seed=1, device="cpu"):
    """All weights of the tiny model with an adapter as it starts."""
    base = Checkpoint(str(TINY)).load(device=torch.device(device)).model
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


class OnAGpu:
    """What is asked of a weight on a GPU, which the test machine need not have."""

    device, dtype = torch.device("meta"), torch.float32

    def __init__(self, rows):
        self.content = torch.randn(rows, 8, generator=torch.Generator().manual_seed(2))

    def numel(self):
        return self.content.numel()

    def cpu(self):
        return self.content

    def double(self):
        return torch.empty_like(self.content, dtype=torch.float64, device=self.device)


SMALL, LARGE = 16, 2**17


@pytest.mark.parametrize(
    ("name", "rows", "there"),
    [
        ("svd_lowrank", SMALL, "cpu"),
        ("svd_lowrank", LARGE, "cpu"),  # a GPU would draw other numbers
        ("qr", SMALL, "cpu"),
        ("qr", LARGE, "meta"),
    ],
)
def test_what_draws_or_is_small_is_decomposed_on_the_cpu_wherever_the_weight_is(
    monkeypatch, name, rows, there
):
    seen = []

    def decompose(matrix, *arguments):
        seen.append((matrix.device.type, torch.rand(1).item()))
        return torch.return_types.qr([matrix, matrix])

    owner = peft_layer if name == "svd_lowrank" else torch.linalg
    monkeypatch.setattr(torch if owner is peft_layer else owner, name, decompose)
    before = torch.get_rng_state()
    with repeatable_starts():
        parts = getattr(owner, name)(OnAGpu(rows))
    drawn = torch.rand(1, generator=torch.Generator().manual_seed(0)).item()
    assert seen == [(there, drawn)]
    assert {(part.device, part.dtype) for part in parts} == {(OnAGpu.device, OnAGpu.dtype)}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("init", ["pissa", "olora", "pissa_niter_4"])
def test_a_gpu_starts_as_a_cpu_does(init):
    here, there = started(init).state_dict(), started(init, device=DEVICE).state_dict()
    for name, tensor in here.items():
        torch.testing.assert_close(there[name].cpu(), tensor, atol=1e-5, rtol=0)


def test_torch_decomposes_as_before_afterwards():
    before = torch.linalg.svd, torch.linalg.qr
    started("pissa")
    assert (torch.linalg.svd, torch.linalg.qr) == before
