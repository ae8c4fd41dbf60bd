"""A base with an adapter merged in: what it computes, and how exactly."""

import copy
import warnings

import pytest
import torch
from kinds import SETTINGS
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from phi3v.adapter import LoraAdapter, load_adapter, merge_into, save_adapter, trained_state
from phi3v.adapter.merging import merge
from phi3v.errors import UserError
from phi3v.model import Phi3VForCausalLM
from phi3v.model.parts import PARTS

PLAIN = {"r": 2, "alpha": 4}
KINDS = {name: {**PLAIN, "scope": list(PARTS), **words} for name, words in SETTINGS.items()}
KINDS["whole beside"] = {**PLAIN, "whole": ["projector", "vision"]}


@pytest.fixture
def saved(tmp_path):
    """Trains an adapter a little on a copy of a base; its folder and the model."""

    def save(base, name="run", **settings):
        model = LoraAdapter(**settings).attach(copy.deepcopy(base))
        generator = torch.Generator().manual_seed(11)
        for tensor in trained_state(model).values():
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.05)
        save_adapter(model, tmp_path / name / "adapter")
        return tmp_path / name, model

    return save


@pytest.mark.parametrize("name", KINDS)
def test_it_computes_what_the_adapter_computed(base, saved, logits_of, name):
    run, model = saved(base, **KINDS[name])
    names, before = [one for one, _ in base.named_parameters()], logits_of(base)
    merged = merge_into(base, run)
    assert isinstance(merged, Phi3VForCausalLM)
    assert [one for one, _ in merged.named_parameters()] == names
    assert (logits_of(model) - before).abs().max() > 0.05
    torch.testing.assert_close(logits_of(merged), logits_of(model), atol=1e-4, rtol=1e-4)


def test_in_bfloat16_the_sum_is_taken_in_float32_and_rounded_once(bf16_base, saved):
    run, model = saved(bf16_base, **PLAIN)
    before = copy.deepcopy(bf16_base)
    merged = merge_into(bf16_base, run)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    name = "model.layers.0.mlp.down_proj"
    layer = model.get_submodule(f"base_model.model.{name}")
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * 2
    wanted = (before.get_submodule(name).weight.float() + product).bfloat16()
    assert torch.equal(merged.get_submodule(name).weight, wanted)


def test_a_whole_part_comes_back_to_the_type_of_the_base(bf16_base, saved):
    run, model = saved(bf16_base, **PLAIN, whole=["projector"])
    merged = merge_into(bf16_base, run)
    trained = model.get_base_model().model.vision_embed_tokens.glb_GN
    assert torch.equal(merged.model.vision_embed_tokens.glb_GN, trained.bfloat16())


def test_a_second_adapter_on_top_is_loaded_and_merged_as_it_was_trained(base, saved, logits_of):
    first, _ = saved(base, "first", **PLAIN, use_dora=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT warns where it thinks of a second time
        merged = merge_into(copy.deepcopy(base), first)
        second, model = saved(merged, "second", **PLAIN, scope=["vision"])
        wanted = logits_of(model)
        again = load_adapter(merge_into(copy.deepcopy(base), first), second / "adapter")
    assert torch.equal(logits_of(again), wanted)
    both = merge_into(merge_into(base, first), second)
    torch.testing.assert_close(logits_of(both), wanted, atol=1e-4, rtol=1e-4)


def test_numbers_that_are_not_finite_and_folders_without_adapter_are_refused(base, saved, tmp_path):
    with pytest.raises(UserError, match=r"model\.merge=.*no adapter_config\.json in it"):
        merge_into(base, tmp_path)
    model = LoraAdapter(**PLAIN).attach(copy.deepcopy(base))
    next(iter(trained_state(model).values())).fill_(torch.nan)
    save_adapter(model, tmp_path / "broken")
    with pytest.raises(UserError, match=r"broken: base.* holds numbers that are not finite"):
        merge_into(base, tmp_path / "broken")


SUBTRACTS = [{**PLAIN, "init": init} for init in ("pissa", "olora")]


def record(run, *merged):
    """Writes the part of a run's configuration that says what was merged where it was trained."""
    words = ",".join(f"'{path}'" for path in merged)
    (run / "config.yaml").write_text(f"model: {{path: base, merge: [{words}]}}\n")


def test_a_plain_adapter_on_another_base_than_it_learned_on_is_told(base, saved, caplog):
    first, _ = saved(base, "first", **PLAIN)
    second, _ = saved(base, "second", **PLAIN)
    record(first)
    record(second, first)
    merged = merge_into(merge_into(copy.deepcopy(base), first), second, before=[first])
    assert caplog.records == []
    merge_into(copy.deepcopy(base), second)
    assert (
        f"trained on a base with [{first}] merged in, and is put onto one with not" in caplog.text
    )
    caplog.clear()
    merge_into(merged, first, before=[first, second])
    assert f"with nothing merged in, and is put onto one with [{first},{second}]" in caplog.text
    caplog.clear()
    (second / "config.yaml").write_text("model: [\n - {")
    merge_into(base, second)
    assert "config.yaml cannot be read" in caplog.text


@pytest.mark.parametrize("settings", SUBTRACTS)
def test_a_start_out_of_the_bare_base_is_not_taken_out_of_a_merged_one(base, saved, settings):
    first, _ = saved(base, "first", **PLAIN)
    second, _ = saved(base, "second", **settings)
    record(second)
    merged = merge_into(copy.deepcopy(base), first)
    with pytest.raises(UserError, match=r"model\.merge=.*second/adapter: its start.*put it first"):
        merge_into(merged, second, before=[first])
    (second / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"no config\.yaml of a run.*put it first"):
        merge_into(merged, second / "adapter", before=[first])
    merge_into(merge_into(base, second / "adapter"), first, before=[second])


@pytest.mark.parametrize("settings", SUBTRACTS)
def test_a_start_out_of_a_merged_base_is_taken_out_of_that_one_alone(
    base, saved, logits_of, settings
):
    first, _ = saved(base, "first", **PLAIN)
    merged = merge_into(copy.deepcopy(base), first)
    second, model = saved(merged, "second", **settings)
    record(second, first / "adapter")
    again = merge_into(copy.deepcopy(merged), second, before=[first])
    torch.testing.assert_close(logits_of(again), logits_of(model), atol=1e-4, rtol=1e-4)
    for before in ([], [first, first], [second]):
        with pytest.raises(UserError, match=rf"put \[{first}/adapter\] and nothing else"):
            merge_into(base, second, before=before)


def without_numbers(run):
    """Leaves an adapter as PEFT alone writes it."""
    file = run / "adapter" / "adapter_model.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt"})


def test_a_record_that_cannot_be_read_is_one_line(base, saved):
    second, _ = saved(base, **SUBTRACTS[0])
    without_numbers(second)
    (second / "config.yaml").write_text("model: [\n - {")
    with pytest.raises(UserError, match=r"config\.yaml cannot be read") as caught:
        merge_into(base, second)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed")
def test_biases_of_an_adapter_that_the_base_has_no_place_for_are_one_line(base, tmp_path):
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["qkv_proj"], lora_bias=True)
    model = get_peft_model(copy.deepcopy(base), config)
    model.save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match=r"model\.merge=.*lora_bias=true.*without a bias"):
        merge_into(base, tmp_path)
    with pytest.raises(UserError, match=r"cannot be merged.*lora_bias=true.*without a bias"):
        merge(model)
