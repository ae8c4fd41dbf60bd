"""Adapters on a base in four bits: they learn, it stays, and what cannot be is refused."""

import pytest
import torch
from torch import nn

from phi3v.adapter import FullFineTuning, LoraAdapter
from phi3v.adapter.counting import trainable_parts
from phi3v.errors import UserError
from phi3v.model import Checkpoint

ASSETS = "assets/tiny"
SCOPE = ("decoder", "projector", "vision")


@pytest.fixture
def base(request):
    return Checkpoint(str(request.config.rootpath / ASSETS), quantization="nf4").load().model


def one_step(model: nn.Module) -> None:
    ids = torch.arange(3, 60)[None]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first one leaves A where it is: B is still zero
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("use_dora", [False, True])
def test_only_the_adapter_learns(base, use_dora):
    before = {name: value.clone() for name, value in base.named_parameters()}
    model = LoraAdapter(r=4, alpha=8, use_dora=use_dora).attach(base)
    start = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    assert {value.dtype for value in start.values()} == {torch.float32}
    one_step(model)
    moved = {n for n, p in model.named_parameters() if n in start and not torch.equal(p, start[n])}
    assert moved == set(start)
    for name, value in model.named_parameters():
        if name not in start:
            plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
            assert torch.equal(value, before[plain])


def test_adapters_of_every_part_are_found(base):
    names = {n for n, p in LoraAdapter(4, 8, scope=SCOPE).attach(base).named_parameters()
             if p.requires_grad}  # fmt: skip
    for part in ("layers.0.mlp.down_proj", "img_projection.0", "encoder.layers.0.mlp.fc1"):
        assert any(part in name for name in names)


def test_four_bit_weights_are_counted_as_the_numbers_that_they_stand_for(base, request):
    whole = Checkpoint(str(request.config.rootpath / ASSETS)).load().model
    assert [p.total for p in trainable_parts(base)] == [p.total for p in trainable_parts(whole)]


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora"])
def test_a_start_out_of_weights_that_are_rounded_is_refused(base, init):
    with pytest.raises(UserError, match=r"keeps in four bits; use init=default"):
        LoraAdapter(r=4, alpha=8, init=init).attach(base)


def test_four_bit_weights_are_not_trained_themselves(base):
    with pytest.raises(UserError, match=r"leave model\.quantization out"):
        FullFineTuning(scope=["decoder"]).attach(base)
