"""LoRA+: the matrices B have a learning rate of their own, beside what each part has."""

import copy

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from small_model import CONFIG

from phi3v.adapter import FullFineTuning, LoraAdapter
from phi3v.errors import UserError
from phi3v.model import Scratch
from phi3v.model.parts import part_of
from phi3v.optim import AdamW

SETTINGS = {"vision": {"lr": 1e-4}, "projector": {"weight_decay": 0.5}}


@pytest.fixture(scope="module")
def base():
    """The same each time."""
    return Scratch(config=CONFIG, vocab_size=420, num_crops=1, seed=3).load(lambda: ["abc"]).model


def adapted(base, **settings):
    """A copy of the base with LoRA on every part, B away from zero, and a gradient on all."""
    torch.manual_seed(1)
    scope = ["decoder", "projector", "vision"]
    model = LoraAdapter(r=2, alpha=4, scope=scope, **settings).attach(copy.deepcopy(base))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
            parameter.grad = torch.randn_like(parameter)
    return model


def trained(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def first_step(before, gradient, rate, decay, eps=1e-8):
    """AdamW's first step, worked out: the averages are the gradient and its square."""
    return before * (1 - rate * decay) - rate * gradient / (gradient.abs() + eps)


def test_a_step_takes_the_rate_and_decay_of_the_part_and_the_ratio_for_b(base):
    model = adapted(base, use_dora=True, bias="lora_only")
    before = trained(model)
    settings = {"lr": 1e-3, "weight_decay": 0.1, "parts": SETTINGS, "lora_plus_ratio": 8}
    AdamW(**settings, betas=[0.9, 0.95]).build(model).step()
    for name, start in before.items():
        part, parameter = part_of(name), model.get_parameter(name)
        rate = SETTINGS.get(part, {}).get("lr", 1e-3) * (8 if "lora_B" in name else 1)
        decay = SETTINGS.get(part, {}).get("weight_decay", 0.1) if start.ndim > 1 else 0
        wanted = first_step(start, parameter.grad, rate, decay)
        torch.testing.assert_close(parameter.detach(), wanted, rtol=0, atol=1e-6, msg=name)
    assert {"lora_A", "lora_B", "lora_magnitude_vector", "bias"} == {
        word for name in before for word in name.split(".") if "lora_" in word or word == "bias"
    }


def test_a_step_is_that_of_peft(base):
    ours, theirs = adapted(base), adapted(base)
    AdamW(lr=1e-3, weight_decay=0.1, lora_plus_ratio=16).build(ours).step()
    create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16, loraplus_weight_decay=0.1
    ).step()
    for name, value in trained(theirs).items():
        assert torch.equal(ours.get_parameter(name), value), name


def test_every_part_has_a_group_for_b(base):
    groups = AdamW(lr=1e-3, parts=SETTINGS, lora_plus_ratio=16).build(adapted(base)).param_groups
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == pytest.approx({
        "decoder": 1e-3, "decoder_lora_b": 16e-3, "projector": 1e-3, "projector_lora_b": 16e-3,
        "vision": 1e-4, "vision_lora_b": 16e-4,
    })  # fmt: skip


def test_a_ratio_of_one_changes_no_group(base):
    groups = AdamW(lr=1e-3, lora_plus_ratio=1.0).build(adapted(base)).param_groups
    assert [group["name"] for group in groups] == ["decoder", "projector", "vision"]


def test_without_lora_it_is_refused(base):
    model = FullFineTuning(scope=["projector"]).attach(copy.deepcopy(base))
    with pytest.raises(UserError, match=r"lora_plus_ratio=2: there is no LoRA.*adapter=lora"):
        AdamW(lr=1e-3, lora_plus_ratio=2).build(model)


@pytest.mark.parametrize("ratio", [0, -1.0, float("inf"), float("nan")])
def test_a_ratio_that_makes_no_sense_is_refused(ratio):
    with pytest.raises(UserError, match="lora_plus_ratio"):
        AdamW(lr=1e-3, lora_plus_ratio=ratio)
