"""A part that trains whole beside a LoRA: what it is in memory, on disk, and for PEFT."""

import copy
import json

import pytest
import torch
from left_behind import moved
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from phi3v.adapter import (
    LoraAdapter,
    load_adapter,
    load_trained_state,
    save_adapter,
    trainable_parts,
    trained_state,
)
from phi3v.errors import UserError
from phi3v.model.slices import WeightFiles, hollow
from phi3v.optim import AdamW

ADAPTER = LoraAdapter(r=2, alpha=4, whole=["projector"])
BESIDE = "base_model.model.model.vision_embed_tokens"
PROJECTION = {f"{BESIDE}.img_projection.{n}.{w}" for n in (0, 2) for w in ("weight", "bias")}
SEPARATORS = {f"{BESIDE}.glb_GN", f"{BESIDE}.sub_GN"}


def as_peft_has_it(base):
    """The same adapter made with PEFT alone; it knows no separators."""
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=2,
        lora_alpha=4,
        target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
        modules_to_save=["img_projection"],
    )
    return get_peft_model(base, config)


def test_the_file_is_that_of_peft_with_the_separators_beside_it(base, tmp_path):
    as_peft_has_it(copy.deepcopy(base)).save_pretrained(str(tmp_path / "peft"))
    save_adapter(ADAPTER.attach(base), tmp_path / "ours")
    ours, theirs = (
        load_file(tmp_path / of / "adapter_model.safetensors") for of in ("ours", "peft")
    )
    assert theirs.keys() > PROJECTION
    assert ours.keys() - theirs.keys() == SEPARATORS
    assert theirs.keys() <= ours.keys()
    config = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["img_projection"]


def test_peft_reads_it_separators_included(base, logits_of, tmp_path):
    fresh = copy.deepcopy(base)
    model = moved(ADAPTER.attach(base))
    save_adapter(model, tmp_path)
    again = PeftModel.from_pretrained(fresh, str(tmp_path))
    assert torch.equal(logits_of(again), logits_of(model))


def test_peft_reads_a_whole_tower_too(base, logits_of, tmp_path):
    fresh = copy.deepcopy(base)
    model = moved(LoraAdapter(r=2, alpha=4, whole=["vision"]).attach(base))
    save_adapter(model, tmp_path)
    again = PeftModel.from_pretrained(fresh, str(tmp_path))
    assert torch.equal(logits_of(again), logits_of(model))


def test_what_peft_alone_has_written_is_read(base, logits_of, tmp_path):
    fresh = copy.deepcopy(base)
    model = moved(as_peft_has_it(base))
    model.save_pretrained(str(tmp_path))
    again = load_adapter(fresh, tmp_path)
    assert torch.equal(logits_of(again), logits_of(model))


def test_a_whole_part_is_float32_on_a_bfloat16_base_and_comes_back_so(
    bf16_base, batch, logits_of, tmp_path
):
    fresh = copy.deepcopy(bf16_base)
    model = LoraAdapter(r=2, alpha=4, whole=["projector", "vision"]).attach(bf16_base)
    trains = {n: p.dtype for n, p in model.named_parameters() if p.requires_grad}
    assert set(trains.values()) == {torch.float32}
    assert trains.keys() >= PROJECTION | SEPARATORS
    frozen = {p.dtype for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {torch.bfloat16}
    model(**{key: value for key, value in batch.items() if key != "ids"}).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    AdamW(lr=1e-3).build(model).step()
    save_adapter(model, tmp_path)
    assert torch.equal(logits_of(load_adapter(fresh, tmp_path)), logits_of(model))


@pytest.mark.parametrize("whole", [["projector"], ["vision"]])
def test_one_part_alone_may_be_float32(bf16_base, logits_of, whole):
    before = logits_of(bf16_base)
    model = LoraAdapter(r=2, alpha=4, whole=whole).attach(bf16_base)
    torch.testing.assert_close(logits_of(model), before, atol=0.05, rtol=0.05)


def test_a_checkpoint_holds_it(base, logits_of):
    fresh = copy.deepcopy(base)
    model = moved(ADAPTER.attach(base))
    state = {name: tensor.clone() for name, tensor in trained_state(model).items()}
    assert state.keys() >= PROJECTION | SEPARATORS
    again = ADAPTER.attach(fresh)
    load_trained_state(again, state)
    assert torch.equal(logits_of(again), logits_of(model))


def test_its_weights_are_counted_once(base):
    whole = sum(p.numel() for p in base.model.vision_embed_tokens.img_projection.parameters())
    whole += 2 * base.model.vision_embed_tokens.glb_GN.numel()
    row = trainable_parts(ADAPTER.attach(base))[1]
    assert (row.part, row.trainable, row.total) == ("projector", whole, whole)


def test_on_a_hollow_model_it_takes_no_memory_and_is_read_from_the_files(bf16_base, tmp_path):
    bf16_base.save_pretrained(tmp_path)
    weights = WeightFiles(tmp_path)
    empty = hollow(bf16_base.config, torch.bfloat16)
    model = LoraAdapter(r=2, alpha=4, whole=["projector"]).attach(empty)
    names = sorted(PROJECTION | SEPARATORS)
    assert {len(model.get_parameter(name).untyped_storage()) for name in names} == {4}
    weights.vacate(model)
    weights.read_into(model, torch.device("cpu"))
    for name in names:
        read = model.get_parameter(name)
        stored = bf16_base.get_parameter(name.removeprefix("base_model.model."))
        assert read.requires_grad
        assert read.dtype == torch.float32
        assert torch.equal(read, stored.float())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"whole": ["decoder"], "scope": ["vision"]}, "most of the model.*adapter=full"),
        ({"whole": ["projector"], "scope": ["decoder", "projector"]}, "in adapter.scope as well"),
        ({"whole": ["projektor"]}, "adapter whole: there is no part.*did you mean 'projector'"),
        ({"init": "orthogonal", "r": 3}, "needs an even rank, r=3 is odd"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        LoraAdapter(**{"r": 2, "alpha": 4, **settings})


def test_biases_in_which_small_steps_vanish_are_refused(bf16_base):
    with pytest.raises(UserError, match=r"bias=lora_only: .*bfloat16.*model\.dtype=float32"):
        LoraAdapter(r=2, alpha=4, scope=["vision"], bias="lora_only").attach(bf16_base)


def test_a_folder_with_a_whole_part_does_not_go_onto_an_adapter_without(base, tmp_path):
    fresh = copy.deepcopy(base)
    save_adapter(ADAPTER.attach(base), tmp_path)
    with pytest.raises(UserError, match="modules_to_save"):
        load_adapter(LoraAdapter(r=2, alpha=4).attach(fresh), tmp_path)
