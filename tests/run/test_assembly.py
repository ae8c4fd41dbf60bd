"""What the run puts together: here, when pictures may be remembered."""

import pytest
from small_model import CONFIG

from phi3v.adapter import FullFineTuning, LoraAdapter
from phi3v.model import Scratch
from phi3v.run.assembly import remember_pictures


@pytest.fixture
def base():
    return Scratch(config=CONFIG, vocab_size=420, num_crops=2).load(lambda: ["What?"]).model


@pytest.mark.parametrize(
    ("adapter", "remembers"),
    [
        (LoraAdapter(r=2, alpha=4), True),
        (LoraAdapter(r=2, alpha=4, scope=["decoder", "projector"]), False),
        (LoraAdapter(r=2, alpha=4, scope=["vision"]), False),
        (FullFineTuning(scope=["decoder"]), True),
        (FullFineTuning(scope=["decoder", "projector"]), False),
    ],
    ids=["decoder", "projector", "vision", "whole decoder", "whole projector"],
)
def test_pictures_are_remembered_only_where_nothing_can_change_them(base, adapter, remembers):
    model = adapter.attach(base)
    remember_pictures(model, 0.1)
    assert (base.model.vision_embed_tokens.memory is not None) == remembers


def test_an_adapter_that_is_only_switched_off_is_still_a_change(base):
    # The base before training is this model without its adapter: the pixels are then the same ones.
    model = LoraAdapter(r=2, alpha=4, scope=["vision"]).attach(base).requires_grad_(False)
    remember_pictures(model, 0.1)
    assert base.model.vision_embed_tokens.memory is None


def test_without_memory_nothing_is_remembered(base):
    remember_pictures(base.requires_grad_(False), 0)
    assert base.model.vision_embed_tokens.memory is None
