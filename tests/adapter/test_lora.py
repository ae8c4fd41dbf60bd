"""Where LoRA lands, what it trains, and what it refuses."""

import pytest
import torch
from torch import nn

from phi3v.adapter import LoraAdapter
from phi3v.errors import UserError
from phi3v.model.parts import PARTS, part_of

HEADS = ("k_proj", "v_proj", "q_proj", "out_proj")
CLIP = (*(f"self_attn.{name}" for name in HEADS), "mlp.fc1", "mlp.fc2")
DECODER = ("self_attn.o_proj", "self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj")


def adapted(model):
    """Names of the modules that carry an adapter, without PEFT's prefix."""
    return {
        name.removeprefix("base_model.model.")
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and isinstance(module.base_layer, nn.Linear)
    }


def expected(part):
    if part == "decoder":
        return {f"model.layers.{i}.{name}" for i in range(2) for name in DECODER}
    if part == "projector":
        return {f"model.vision_embed_tokens.img_projection.{i}" for i in (0, 2)}
    tower = "model.vision_embed_tokens.img_processor.vision_model.encoder.layers"
    return {  # two of the three layers: the feature is the input of the last
        f"{tower}.{i}.{name}" for i in range(2) for name in CLIP
    }


def step(model, batch):
    model.train()
    inputs = {key: value for key, value in batch.items() if key != "ids"}
    model(**inputs).loss.backward()


@pytest.mark.parametrize(
    "scope", [["decoder"], ["projector"], ["vision"], ["decoder", "vision"], list(PARTS)]
)
def test_adapters_sit_on_every_linear_of_the_scope_and_nowhere_else(base, scope):
    model = LoraAdapter(r=2, alpha=4, scope=scope).attach(base)
    assert adapted(model) == set().union(*(expected(part) for part in scope))


@pytest.mark.parametrize("scope", [["decoder"], ["projector"], ["vision"], list(PARTS)])
@pytest.mark.parametrize("use_dora", [False, True])
def test_only_adapters_of_the_scope_get_a_gradient_and_all_of_them_do(base, batch, scope, use_dora):
    model = LoraAdapter(r=2, alpha=4, scope=scope, use_dora=use_dora).attach(base)
    step(model, batch)
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n, _ in model.named_parameters() if "lora_" in n}
    assert {part_of(name) for name in with_gradient} == set(scope)


def test_lora_only_biases_train_inside_the_scope(base, batch):
    model = LoraAdapter(r=2, alpha=4, scope=["vision"], bias="lora_only").attach(base)
    step(model, batch)
    biases = {n for n, p in model.named_parameters() if p.grad is not None and "bias" in n}
    assert len(biases) == len(expected("vision"))
    assert {part_of(name) for name in biases} == {"vision"}


def test_attaching_changes_no_logit(base, logits_of):
    before = logits_of(base)
    model = LoraAdapter(r=2, alpha=4, scope=PARTS).attach(base)
    assert torch.equal(logits_of(model), before)


def test_adapters_are_float32_on_a_bfloat16_base(bf16_base):
    model = LoraAdapter(r=2, alpha=4, scope=PARTS, use_dora=True).attach(bf16_base)
    dtypes = {"lora_" in name: p.dtype for name, p in model.named_parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}


def test_the_same_seed_gives_the_same_start(base):
    starts = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        model = LoraAdapter(r=2, alpha=4).attach(base)
        name = "base_model.model.model.layers.0.mlp.down_proj.lora_A.default.weight"
        starts.append(model.get_parameter(name).detach().clone())
        base = model.unload()
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_settings_reach_the_layers(base):
    adapter = LoraAdapter(r=4, alpha=6, dropout=0.25, use_rslora=True, init="gaussian")
    model = adapter.attach(base)
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.qkv_proj")
    assert layer.scaling["default"] == pytest.approx(6 / 4**0.5)
    assert layer.lora_dropout["default"].p == 0.25
    assert layer.lora_A["default"].weight.std().item() == pytest.approx(1 / 4, rel=0.3)


def test_targets_may_be_fewer_and_parts_out_of_scope_are_not_looked_at(base):
    targets = {"decoder": ["down_proj"], "vision": ["no_such_thing"]}
    model = LoraAdapter(r=2, alpha=4, targets=targets).attach(base)
    assert adapted(model) == {f"model.layers.{i}.mlp.down_proj" for i in range(2)}


@pytest.mark.parametrize(
    ("part", "target", "there"),
    [
        ("decoder", "q_proj", "qkv_proj"),  # exists, but in CLIP
        ("vision", "qkv_proj", "q_proj"),
        ("projector", "fc1", "img_projection.0"),
        ("vision", "encoder.layers.2.mlp.fc1", "fc1"),  # the layer that nothing reads
        ("decoder", "self_attn", "o_proj"),  # exists, but is no linear module
    ],
)
def test_a_target_that_matches_nothing_in_its_part_is_refused_with_the_names(
    base, part, target, there
):
    adapter = LoraAdapter(r=2, alpha=4, scope=[part], targets={part: [target]})
    with pytest.raises(UserError, match=f"'{target}' matches nothing in the {part}") as error:
        adapter.attach(base)
    assert there in str(error.value).split("it has: ")[1].split(", ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scope": ["decodr"]}, "no part 'decodr'; did you mean 'decoder'"),
        ({"scope": []}, "empty"),
        ({"targets": {"clip": ["fc1"]}}, "no part 'clip'"),
        ({"r": 0}, "r=0"),
        ({"alpha": 0}, "alpha=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"init": "zeros"}, "init='zeros'.*pissa"),
        ({"bias": "all"}, "bias='all'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as error:
        LoraAdapter(**{"r": 2, "alpha": 4, **settings})
    assert "\n" not in str(error.value)
