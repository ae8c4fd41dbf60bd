"""Every parameter belongs to one part, and those without a gradient are known."""

import json
from pathlib import Path

import torch

from phi3v.model import Phi3VConfig, Phi3VForCausalLM
from phi3v.model.parts import PARTS, has_no_gradient, part_of

FULL_SIZE = json.loads((Path(__file__).parent / "golden" / "full_size_parameters.json").read_text())
MODELS = [name for name in FULL_SIZE if name.startswith("microsoft/")]


def full_size_names():
    return FULL_SIZE[MODELS[0]]["parameters"]


def test_names_and_shapes_at_full_size_are_the_published_ones():
    with torch.device("meta"):
        model = Phi3VForCausalLM(Phi3VConfig())
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    for name in MODELS:
        assert ours == FULL_SIZE[name]["parameters"]
    assert ours.keys() == FULL_SIZE["_published_index_Phi-3-vision"]["weight_map"].keys()
    assert sum(value.numel() for value in model.parameters()) == 4_146_621_440


def test_parts_at_full_size_have_the_published_sizes():
    sizes = dict.fromkeys(PARTS, 0)
    unused = 0
    for name, shape in full_size_names().items():
        count = torch.Size(shape).numel()
        sizes[part_of(name)] += count
        unused += count if has_no_gradient(name, Phi3VConfig()) else 0
    assert sizes["vision"] == 303_507_456
    assert sizes["projector"] == 22_034_432
    assert sum(sizes.values()) == 4_146_621_440
    assert unused == 12_598_272


def test_adapter_names_are_understood():
    prefix = "base_model.model.model."
    assert part_of(prefix + "layers.0.self_attn.qkv_proj.lora_A.default.weight") == "decoder"
    assert part_of(prefix + "vision_embed_tokens.img_projection.0.lora_A.default.weight") == (
        "projector"
    )
    tower = "vision_embed_tokens.img_processor.vision_model."
    assert part_of(prefix + tower + "encoder.layers.3.mlp.fc1.base_layer.weight") == "vision"
    assert has_no_gradient(prefix + tower + "encoder.layers.23.mlp.fc1.weight", Phi3VConfig())
    assert not has_no_gradient(prefix + tower + "encoder.layers.22.mlp.fc1.weight", Phi3VConfig())
    assert part_of("lm_head.weight") == part_of("base_model.model.lm_head.weight") == "decoder"


def test_exactly_the_parameters_that_get_no_gradient_are_named(small, picture):
    small.model.train()
    inputs = small.processor(text="<|image_1|>\nWhat is shown?", images=picture())
    labels = inputs["input_ids"].clone()
    labels[labels < 0] = -100
    small.model(**inputs, labels=labels).loss.backward()
    for name, value in small.model.named_parameters():
        assert (value.grad is None) is has_no_gradient(name, small.model.config), name
