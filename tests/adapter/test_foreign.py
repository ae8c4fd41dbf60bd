"""Adapters that PEFT alone has made and saved, with more in their files than an adapter of ours."""

import copy

import pytest
import torch
from left_behind import moved
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from phi3v.adapter import load_adapter, merge_into
from phi3v.errors import UserError

HEAD = "base_model.model.lm_head"
pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")


def saved_by_peft(base, folder, **settings):
    """Written by PEFT as it does without being asked; the model."""
    model = moved(get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=2, **settings)))
    model.save_pretrained(str(folder))
    return model


def names_in(folder):
    return set(load_file(folder / "adapter_model.safetensors"))


def test_one_on_the_head_is_read_though_the_head_itself_is_in_the_file(base, logits_of, tmp_path):
    fresh = copy.deepcopy(base)
    model = saved_by_peft(base, tmp_path, target_modules=["qkv_proj", "lm_head"])
    assert {f"{HEAD}.base_layer.weight", f"{HEAD}.lora_A.weight"} <= names_in(tmp_path)
    again = load_adapter(copy.deepcopy(fresh), tmp_path)
    assert torch.equal(logits_of(again), logits_of(model))
    merged = merge_into(fresh, tmp_path)
    torch.testing.assert_close(logits_of(merged), logits_of(model), atol=1e-4, rtol=1e-4)


def test_it_is_read_onto_the_same_base_in_another_type(base, tmp_path):
    rounded = copy.deepcopy(base).bfloat16()
    wide = copy.deepcopy(rounded).float()
    saved_by_peft(base, tmp_path / "exact", target_modules=["lm_head"])
    load_adapter(copy.deepcopy(rounded), tmp_path / "exact")
    saved_by_peft(rounded, tmp_path / "rounded", target_modules=["lm_head"])
    load_adapter(wide, tmp_path / "rounded")


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_one_that_trained_a_module_whole_is_read(base, logits_of, tmp_path, name):
    fresh = copy.deepcopy(base)
    settings = {"target_modules": ["qkv_proj"], "modules_to_save": [name]}
    model = saved_by_peft(base, tmp_path, **settings)
    again = load_adapter(fresh, tmp_path)
    assert torch.equal(logits_of(again), logits_of(model))


def refused(base, folder):
    """The one line that says what is in the file and what to do."""
    before = {name: value.clone() for name, value in base.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_adapter(base, folder)
    assert all(
        torch.equal(value, before[name])
        for name, value in base.state_dict().items() if name in before
    )  # fmt: skip
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_one_on_the_head_of_another_base_is_told_with_what_to_do(base, tmp_path):
    other = copy.deepcopy(base)
    other.lm_head.weight.data[3, 1] += 0.5
    saved_by_peft(base, tmp_path, target_modules=["lm_head"])
    line = refused(other, tmp_path)
    assert f"the weights in {tmp_path} hold 1 of a base beside the adapter (lm_head.weight)" in line
    assert "load the base that it was trained on" in line
    assert line.endswith("save it there with save_embedding_layers=False")


def test_a_head_for_more_tokens_is_told_with_what_to_do(base, tmp_path):
    saved_by_peft(copy.deepcopy(base), tmp_path, target_modules=["qkv_proj"])
    file = tmp_path / "adapter_model.safetensors"
    more = {f"{HEAD}.weight": torch.zeros(base.lm_head.weight.shape[0] + 4, 32)}
    save_file({**load_file(file), **more}, file)
    assert "hold 1 of a base beside the adapter (lm_head.weight)" in refused(base, tmp_path)
