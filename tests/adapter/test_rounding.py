"""What is kept of a LoRA is as exact as its base, and what was measured is what is kept."""

import copy
from pathlib import Path

import pytest
import torch
from left_behind import moved
from safetensors.torch import load_file

from phi3v.adapter import (
    FullFineTuning,
    LoraAdapter,
    load_adapter,
    round_to_base,
    save_adapter,
    trained_state,
)
from phi3v.config import instantiate
from phi3v.config.composing import check_command_line
from phi3v.model import Phi3VConfig
from phi3v.model.slices import hollow

CONF = Path(__file__).parents[2] / "conf"

WHAT_STAYS = {
    "magnitudes": LoraAdapter(r=2, alpha=4, use_dora=True),
    "whole part": LoraAdapter(r=2, alpha=4, whole=["projector"]),
}


def is_matrix(name):
    return ".lora_A." in name or ".lora_B." in name


def copied(state):
    return {name: tensor.clone() for name, tensor in state.items()}


def test_on_a_bf16_base_matrices_are_rounded_and_stay_float32(bf16_base):
    model = moved(LoraAdapter(r=2, alpha=4).attach(bf16_base))
    before = copied(trained_state(model))
    round_to_base(model)
    for name, tensor in trained_state(model).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name].bfloat16().float())
        assert not torch.equal(tensor, before[name])


@pytest.mark.parametrize("kind", WHAT_STAYS)
def test_what_is_no_matrix_of_a_lora_keeps_every_digit(bf16_base, kind):
    model = moved(WHAT_STAYS[kind].attach(bf16_base))
    before = copied(trained_state(model))
    round_to_base(model)
    others = {name: t for name, t in trained_state(model).items() if not is_matrix(name)}
    assert others
    assert all(torch.equal(tensor, before[name]) for name, tensor in others.items())


def test_a_float32_base_and_a_whole_model_are_left_alone(base):
    for adapter in (LoraAdapter(r=2, alpha=4), FullFineTuning()):
        model = moved(adapter.attach(copy.deepcopy(base)))
        before = copied(trained_state(model))
        round_to_base(model)
        assert all(torch.equal(t, before[name]) for name, t in trained_state(model).items())


@pytest.mark.parametrize("kind", [*WHAT_STAYS, "lora"])
def test_what_was_rounded_is_half_as_large_and_loads_to_the_bit(
    bf16_base, logits_of, tmp_path, kind
):
    adapter = WHAT_STAYS.get(kind, LoraAdapter(r=2, alpha=4))
    again = copy.deepcopy(bf16_base)
    model = moved(adapter.attach(bf16_base))
    round_to_base(model)
    save_adapter(model, tmp_path)
    written = load_file(tmp_path / "adapter_model.safetensors")
    matrices = {t.dtype for name, t in written.items() if is_matrix(name)}
    assert matrices == {torch.bfloat16}
    loaded = load_adapter(again, tmp_path)
    assert torch.equal(logits_of(loaded), logits_of(model))


def test_what_was_not_rounded_is_written_with_every_digit(bf16_base, logits_of, tmp_path):
    again = copy.deepcopy(bf16_base)
    model = moved(LoraAdapter(r=2, alpha=4).attach(bf16_base))
    save_adapter(model, tmp_path)
    written = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.float32}
    assert torch.equal(logits_of(load_adapter(again, tmp_path)), logits_of(model))


def test_at_full_size_the_adapter_of_the_first_experiment_is_less_than_a_hundredth(tmp_path):
    words = ["experiment=lora_r16", "model=phi3_vision"]
    plain = check_command_line(CONF, "train", words, config_name="train").plain
    assert plain["model"]["dtype"] == "bfloat16"
    base = hollow(Phi3VConfig(), torch.bfloat16)
    size = sum(weight.numel() * weight.element_size() for weight in base.parameters())
    assert size == 8_293_242_880  # as the published index says
    model = instantiate(plain["adapter"]).attach(base)
    for tensor in trained_state(model).values():
        tensor.add_(0.01)  # a trained B is not zero any more
    round_to_base(model)
    save_adapter(model, tmp_path)
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert 25_165_824 * 2 < written < 0.01 * size  # parameters of two bytes
