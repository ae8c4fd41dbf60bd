"""What the run puts together: when pictures may be remembered, and when a base is as it was."""

import pytest
import torch
from made_run import make_run
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from small_model import CONFIG

from phi3v.adapter import FullFineTuning, LoraAdapter
from phi3v.errors import UserError
from phi3v.model import Scratch
from phi3v.model.finite import is_finite
from phi3v.model.parts import published_name
from phi3v.run.assembly import (
    adapter_of,
    leaves_base_alone,
    load_base,
    remember_pictures,
)
from phi3v.run.recorded import read_run


@pytest.fixture
def base():
    return Scratch(config=CONFIG, vocab_size=420, num_crops=2).load(lambda: ["What?"]).model


@pytest.mark.parametrize(
    ("adapter", "remembers"),
    [
        (LoraAdapter(r=2, alpha=4), True),
        (LoraAdapter(r=2, alpha=4, scope=["decoder", "projector"]), False),
        (LoraAdapter(r=2, alpha=4, scope=["vision"]), False),
        (LoraAdapter(r=2, alpha=4, whole=["projector"]), False),
        (FullFineTuning(scope=["decoder"]), True),
        (FullFineTuning(scope=["decoder", "projector"]), False),
    ],
    ids=["decoder", "projector", "vision", "beside", "whole decoder", "whole projector"],
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


@pytest.mark.parametrize(
    ("settings", "alone"),
    [
        ({}, True),
        ({"use_dora": True, "use_rslora": True, "init": "orthogonal"}, True),
        ({"bias": "lora_only", "scope": ["vision"]}, False),
        ({"init": "pissa"}, False),
        ({"init": "pissa_niter_2"}, False),
        ({"init": "olora"}, False),
        ({"whole": ["projector"]}, False),
    ],
)
def test_where_the_base_is_changed_switching_off_does_not_bring_it_back(base, settings, alone):
    before = {name: weight.detach().clone() for name, weight in base.named_parameters()}
    model = LoraAdapter(r=2, alpha=4, **settings).attach(base)
    assert leaves_base_alone(model) == alone
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.add_(0.01)
            weight.requires_grad_(False)
    plain = {published_name(name): weight for name, weight in model.named_parameters()}
    assert all(torch.equal(plain[name], weight) for name, weight in before.items()) == alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_one_number_that_is_not_finite_is_found_in_a_weight(number, dtype):
    weight = torch.nn.Parameter(torch.full((40, 30), 6e4).to(dtype))
    assert is_finite(weight)
    weight.data[39, 29] = number
    assert not is_finite(weight)


def test_an_adapter_that_changes_its_base_is_merged_first_or_not_at_all(tmp_path):
    plain = make_run(tmp_path / "plain", "adapter.r=2")
    pissa = make_run(tmp_path / "pissa", "adapter.r=2", "adapter.init=pissa")
    model = read_run(pissa).config["model"]
    load_base({**model, "merge": [str(pissa), str(plain)]}, lambda: iter(()))
    with pytest.raises(UserError, match=r"pissa/adapter: its start \(pissa\).*put it first"):
        load_base({**model, "merge": [str(plain), str(pissa)]}, lambda: iter(()))


def test_an_adapter_that_changed_its_base_goes_on_only_on_that_one(tmp_path):
    plain = make_run(tmp_path / "plain", "adapter.r=2")
    pissa = make_run(tmp_path / "pissa", "adapter.r=2", "adapter.init=pissa")
    cfg = OmegaConf.create(read_run(pissa).config)
    cfg.adapter.init_from = str(pissa)
    assert adapter_of(cfg, starts=True).init == "pissa"
    cfg.model.merge = [str(plain)]
    refusal = r"adapter\.init_from=.*pissa/adapter: its start \(pissa\).*tiny model\.merge=\[\], "
    with pytest.raises(UserError, match=refusal):
        adapter_of(cfg, starts=True).attach(load_base(cfg.model, lambda: iter(())).model)
    file = pissa / "adapter" / "adapter_model.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=refusal):
        adapter_of(cfg, starts=True)  # the paths alone say so, before anything is loaded
    adapter_of(cfg, starts=False)  # its weights come from a checkpoint
    cfg.adapter.init, cfg.adapter.init_from = "default", str(plain)
    adapter_of(cfg, starts=True)
