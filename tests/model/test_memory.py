"""A remembered picture gives the very tokens that were computed for it, and no other's."""

import pytest
import torch

from phi3v.model.memory import PictureMemory

PROMPT = "<|user|>\n<|image_1|>\nWhat is shown in this image?<|end|>\n<|assistant|>\n"


@pytest.fixture
def vision(small):
    return small.model.model.vision_embed_tokens


@pytest.fixture
def inputs(small, picture):
    """Two pictures of different shapes; the smaller one has padding crops."""
    pictures = [picture(100, 30, 1), picture(30, 30, 2)]
    prepared = small.processor(text=[PROMPT, PROMPT], images=pictures, padding=True)
    return {name: prepared[name] for name in ("pixel_values", "image_sizes")}


@pytest.fixture
def clip_calls(vision):
    calls = []
    vision.img_processor.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    return calls


def crops_of(inputs, first=0):
    side = inputs["pixel_values"].shape[-1]
    sizes = inputs["image_sizes"][first:].tolist()
    return sum(h // side * (w // side) + 1 for h, w in sizes)


@torch.no_grad()
def tokens(vision, inputs):
    return vision(**inputs)


def test_tokens_are_those_without_a_memory(vision, inputs):
    plain = tokens(vision, inputs)
    vision.memory = PictureMemory(2**20)
    for _ in range(2):
        for one, other in zip(tokens(vision, inputs), plain, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_known_picture_is_not_computed_again(vision, inputs, clip_calls):
    vision.memory = PictureMemory(2**20)
    first = tokens(vision, inputs)
    assert clip_calls == [crops_of(inputs)]
    again = tokens(vision, inputs)
    assert len(clip_calls) == 1
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_tokens_do_not_depend_on_what_is_known(vision, inputs):
    alone = {name: tensor[1:] for name, tensor in inputs.items()}
    vision.memory = PictureMemory(2**20)
    (late,) = tokens(vision, alone)
    vision.memory = PictureMemory(2**20)
    assert torch.equal(tokens(vision, inputs)[1], late)


def test_another_picture_of_the_same_shape_is_another_one(vision, inputs, clip_calls):
    vision.memory = PictureMemory(2**20)
    before = tokens(vision, inputs)[0]
    changed = inputs | {"pixel_values": inputs["pixel_values"].clone()}
    changed["pixel_values"][0, 1, 2, 5, 5] += 1
    assert (tokens(vision, changed)[0] - before).abs().max() > 1e-5
    assert clip_calls[1] < clip_calls[0]  # the second picture is the old one


def test_padding_crops_make_no_other_picture_of_it(vision, inputs, clip_calls):
    vision.memory = PictureMemory(2**20)
    tokens(vision, inputs)
    pixels = inputs["pixel_values"]
    wider = torch.cat([pixels, torch.full_like(pixels[:, :1], 9.0)], dim=1)
    tokens(vision, inputs | {"pixel_values": wider})
    assert len(clip_calls) == 1


def test_a_picture_that_comes_twice_is_computed_once(vision, inputs, clip_calls):
    vision.memory = PictureMemory(2**20)
    twice = {name: torch.cat([tensor, tensor]) for name, tensor in inputs.items()}
    found = tokens(vision, twice)
    assert clip_calls == [crops_of(inputs)]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_no_more_is_kept_than_the_limit(vision, inputs, clip_calls):
    sizes = [one.nbytes for one in tokens(vision, inputs)]
    del clip_calls[:]
    vision.memory = PictureMemory(min(sizes))
    for _ in range(3):
        tokens(vision, inputs)
    larger = crops_of(inputs, first=1)
    assert clip_calls == [crops_of(inputs), larger, larger]  # the smaller one is kept


def test_what_was_computed_for_an_evaluation_can_be_trained_on(small, vision, picture):
    inputs = dict(small.processor(text=PROMPT, images=picture()))
    small.model.requires_grad_(False)
    small.model.lm_head.requires_grad_(True)
    small.model.model.layers[0].requires_grad_(True)
    vision.memory = PictureMemory(2**20)
    with torch.inference_mode():
        small.model(**inputs)
    small.model(**inputs).logits.sum().backward()
    assert small.model.model.layers[0].mlp.down_proj.weight.grad.any()
