"""Parameter groups by part, and who decays."""

import pytest
import torch
from torch import nn

from phi3v.errors import UserError
from phi3v.model.parts import part_of
from phi3v.optim import AdamW

TOWER = "img_processor.vision_model"


SHAPES = {
    "model.embed_tokens.weight": (8, 4),
    "model.layers.0.mlp.down_proj.weight": (4, 4),
    "model.layers.0.mlp.down_proj.lora_A.default.weight": (1, 4),
    "model.norm.weight": (4,),
    "lm_head.weight": (8, 4),
    "model.vision_embed_tokens.glb_GN": (1, 1, 4),
    "model.vision_embed_tokens.sub_GN": (1, 1, 1, 4),
    "model.vision_embed_tokens.img_projection.0.weight": (4, 4),
    "model.vision_embed_tokens.img_projection.0.bias": (4,),
    f"model.vision_embed_tokens.{TOWER}.embeddings.patch_embedding.weight": (4, 3, 2, 2),
    f"model.vision_embed_tokens.{TOWER}.embeddings.class_embedding": (4,),
    f"model.vision_embed_tokens.{TOWER}.encoder.layers.0.layer_norm1.bias": (4,),
}


class Parts(nn.Module):
    """Parameters with the names and shapes that matter of every part of the model."""

    def __init__(self):
        super().__init__()
        for name, shape in SHAPES.items():
            *path, last = name.split(".")
            module = self
            for word in path:
                if not hasattr(module, word):
                    module.add_module(word, nn.Module())
                module = getattr(module, word)
            module.register_parameter(last, nn.Parameter(torch.ones(shape)))


@pytest.fixture
def model():
    return Parts()


def names_by_group(model, optimizer):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        group["name"]: {names[id(parameter)] for parameter in group["params"]}
        for group in optimizer.param_groups
    }


def test_every_trainable_parameter_is_in_the_group_of_its_part(model):
    model.get_parameter("lm_head.weight").requires_grad_(False)
    groups = names_by_group(model, AdamW(lr=1e-3).build(model))
    assert list(groups) == [
        "decoder",
        "decoder_no_decay",
        "projector",
        "projector_no_decay",
        "vision",
        "vision_no_decay",
    ]
    assert set().union(*groups.values()) == set(SHAPES) - {"lm_head.weight"}
    for group, names in groups.items():
        assert {part_of(name) for name in names} == {group.removesuffix("_no_decay")}


def test_matrices_decay_and_vectors_do_not(model):
    groups = names_by_group(model, AdamW(lr=1e-3).build(model))
    spared = set().union(*(names for group, names in groups.items() if "no_decay" in group))
    assert {name.split(".")[-1] for name in spared} == {
        "weight",
        "bias",
        "glb_GN",
        "sub_GN",
        "class_embedding",
    }
    assert {name for name in spared if name.endswith(".weight")} == {"model.norm.weight"}
    assert "model.layers.0.mlp.down_proj.lora_A.default.weight" in groups["decoder"]


def test_parts_override_learning_rate_and_decay(model):
    settings = {"vision": {"lr": 1e-5}, "projector": {"weight_decay": 0.5}}
    optimizer = AdamW(lr=1e-3, weight_decay=0.1, parts=settings).build(model)
    found = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert found == {
        "decoder": (1e-3, 0.1),
        "decoder_no_decay": (1e-3, 0.0),
        "projector": (1e-3, 0.5),
        "projector_no_decay": (1e-3, 0.0),
        "vision": (1e-5, 0.1),
        "vision_no_decay": (1e-5, 0.0),
    }


def test_a_step_without_gradient_signal_shrinks_only_what_decays(model):
    optimizer = AdamW(lr=0.1, weight_decay=0.5).build(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert model.get_parameter("lm_head.weight")[0, 0].item() == pytest.approx(1 - 0.1 * 0.5)
    assert model.get_parameter("model.norm.weight")[0].item() == 1.0


def test_betas_and_eps_reach_torch(model):
    optimizer = AdamW(lr=1e-3, betas=[0.8, 0.95], eps=1e-6).build(model)
    assert optimizer.defaults["betas"] == (0.8, 0.95)
    assert optimizer.defaults["eps"] == 1e-6


def test_an_unknown_part_or_setting_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"optimizer\.parts: .*'visoin'; did you mean 'vision'"):
        AdamW(lr=1e-3, parts={"visoin": {"lr": 1e-5}})
    with pytest.raises(UserError, match=r"optimizer\.parts\.vision: .*did you mean 'lr'"):
        AdamW(lr=1e-3, parts={"vision": {"lrs": 1e-5}})


def test_a_model_in_which_nothing_trains_is_refused(model):
    with pytest.raises(UserError, match="nothing trains"):
        AdamW(lr=1e-3).build(model.requires_grad_(False))


@pytest.mark.parametrize("setting", ["lr", "weight_decay"])
def test_a_negative_number_is_refused(setting):
    with pytest.raises(UserError, match=f"optimizer.{setting}=-1"):
        AdamW(**{"lr": 1e-3, setting: -1})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"betas": [0.9, 1.0]}, "optimizer.betas="),
        ({"betas": [0.9]}, "optimizer.betas="),
        ({"eps": -1.0}, "optimizer.eps=-1.0"),
        ({"parts": {"vision": {"lr": -1e-5}}}, "optimizer.parts.vision.lr=-1e-05"),
    ],
)
def test_what_torch_would_refuse_in_the_middle_is_refused_by_its_name(settings, named):
    with pytest.raises(UserError) as caught:
        AdamW(lr=1e-3, **settings)
    assert str(caught.value).startswith(named)
