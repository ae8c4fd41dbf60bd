"""Every kind of adapter on every selection of parts comes back from its folder as it was."""

import copy

import pytest
import torch
from kinds import EVERY, NAMES, declared
from left_behind import moved

from phi3v.adapter import LoraAdapter, load_adapter, save_adapter, trained_state
from phi3v.model.parts import PARTS
from phi3v.model.slices import WeightFiles, hollow

READ_LATER = [
    (name, adapter) for name, scope, adapter in EVERY
    if isinstance(adapter, LoraAdapter) and not adapter.reads_weights
    and scope == (["decoder"] if name == "whole beside" else ["decoder", "projector", "vision"])
]  # fmt: skip


IN_BF16 = [
    pytest.param(*one, "bf16_base", id=f"{name} in bfloat16")
    for one, name in zip(EVERY, NAMES, strict=True)
    if one[0] in ("pissa", "fast pissa", "olora", "rslora") and one[1] in (["decoder"], [*PARTS])
]


@pytest.mark.parametrize(
    ("name", "scope", "adapter", "kind"),
    [*(pytest.param(*one, "base", id=name) for one, name in zip(EVERY, NAMES, strict=True)),
     *IN_BF16],
)  # fmt: skip
def test_saved_and_loaded_it_gives_the_same_logits_bit_for_bit(
    name, scope, adapter, kind, request, logits_of, tmp_path
):
    base = request.getfixturevalue(kind)
    fresh, untrained = copy.deepcopy(base), logits_of(base)
    model = adapter.attach(base)
    generator = torch.Generator().manual_seed(11)
    for tensor in trained_state(model).values():
        tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.05)
    wanted = logits_of(model)
    assert not torch.equal(wanted, untrained)
    save_adapter(model, tmp_path)
    torch.manual_seed(99)  # where it is loaded, nothing is drawn as it was in training
    assert torch.equal(logits_of(load_adapter(fresh, tmp_path)), wanted)


@pytest.mark.parametrize(("name", "scope", "adapter"), EVERY, ids=NAMES)
def test_it_declares_the_parts_in_scope_and_nothing_that_can_get_no_gradient(
    name, scope, adapter, base
):
    model = adapter.attach(base)
    trains = {one for one, parameter in model.named_parameters() if parameter.requires_grad}
    assert trains == declared(name, scope, model, base.config)


@pytest.mark.parametrize(("name", "adapter"), READ_LATER, ids=[name for name, _ in READ_LATER])
def test_loaded_onto_weights_that_are_read_later_it_gives_the_same_logits(
    name, adapter, base, logits_of, tmp_path
):
    base.save_pretrained(tmp_path / "base")
    config = copy.deepcopy(base.config)
    model = moved(adapter.attach(base))
    save_adapter(model, tmp_path / "adapter")
    weights = WeightFiles(tmp_path / "base")
    again = load_adapter(hollow(config, torch.float32), tmp_path / "adapter")
    weights.vacate(again)
    weights.read_into(again, torch.device("cpu"))
    assert torch.equal(logits_of(again), logits_of(model))
