"""The golden data would see a mistake: each is made on purpose, and the logits must move.

A mutation is seen when the largest change of a golden logit is far above the tolerance of 1e-4.
"""

import pytest
import torch
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from phi3v.model import modeling, vision

TOLERANCE = 1e-4
PICTURE, LONG_TEXT = "image_orig64", "text_long_orig64"
WIDE = "image_nc16_padded_crops"


@torch.no_grad()
def error(golden, name):
    """Largest difference of a logit from what is right."""
    case = golden.case(name)
    inputs = {key: value for key, value in case.inputs.items() if key != "labels"}
    logits = golden.model(case.config_file)(**inputs).logits
    rows, columns = case.expected["logits_index"].T
    return (logits[rows, columns] - case.expected["logits"]).abs().max().item()


@pytest.mark.parametrize("name", [PICTURE, LONG_TEXT, WIDE])
def test_without_a_mistake_the_golden_logits_are_met(golden, name):
    assert error(golden, name) < TOLERANCE


def test_crops_in_reverse_order_are_seen(golden, monkeypatch):
    tile = vision.tile_crops
    monkeypatch.setattr(vision, "tile_crops", lambda crops, *shape: tile(crops.flip(0), *shape))
    assert error(golden, WIDE) > 100 * TOLERANCE


def test_crops_in_column_order_are_seen(golden, monkeypatch):
    def by_column(crops, rows, columns):
        _, grid, _, channels = crops.shape
        tiles = crops.view(columns, rows, grid, grid, channels).permute(1, 2, 0, 3, 4)
        return tiles.reshape(rows * grid, columns * grid, channels)

    monkeypatch.setattr(vision, "tile_crops", by_column)
    assert error(golden, "gen_cross_boundary_image") > 100 * TOLERANCE


def test_another_order_of_the_two_by_two_merge_is_seen(golden, monkeypatch):
    def transposed(features, grid):
        crops, _, channels = features.shape
        blocks = features.view(crops, grid, 2, grid, 2, channels)
        return blocks.permute(0, 1, 3, 4, 2, 5).reshape(crops, grid, grid, 4 * channels)

    monkeypatch.setattr(vision, "merge_patches", transposed)
    assert error(golden, PICTURE) > 100 * TOLERANCE


@pytest.mark.parametrize("off_by", [-1, 1])
def test_another_clip_layer_is_seen(golden, monkeypatch, off_by):
    depth = vision.Phi3VConfig.vision_depth.fget
    monkeypatch.setattr(
        vision.Phi3VConfig, "vision_depth", property(lambda config: depth(config) + off_by)
    )
    assert error(golden, PICTURE) > 100 * TOLERANCE


def test_the_overview_before_the_crops_is_seen(golden, monkeypatch):
    monkeypatch.setattr(vision.Phi3VConfig, "hd_transform_order", "glb_sub")
    assert error(golden, PICTURE) > 100 * TOLERANCE


def test_a_projector_with_another_activation_is_seen(golden, monkeypatch):
    tanh = nn.GELU(approximate="tanh")
    monkeypatch.setattr(vision.nn, "GELU", lambda: tanh)
    assert error(golden, PICTURE) > 2 * TOLERANCE


@pytest.mark.parametrize("name", [LONG_TEXT, PICTURE])
def test_a_rope_without_its_attention_factor_is_seen(golden, monkeypatch, name):
    longrope = ROPE_INIT_FUNCTIONS["longrope"]
    plain = {"longrope": lambda *args, **options: (longrope(*args, **options)[0], 1.0)}
    monkeypatch.setattr(
        "transformers.models.phi3.modeling_phi3.ROPE_INIT_FUNCTIONS", ROPE_INIT_FUNCTIONS | plain
    )
    assert error(golden, name) > 100 * TOLERANCE


def test_short_rope_factors_for_a_long_sequence_are_seen(golden, monkeypatch):
    as_longrope = modeling.Phi3VConfig._as_longrope

    def always_short(config, rope):
        rope = as_longrope(config, rope)
        return rope | {"long_factor": rope["short_factor"]}

    monkeypatch.setattr(modeling.Phi3VConfig, "_as_longrope", always_short)
    assert error(golden, LONG_TEXT) > 100 * TOLERANCE


def test_a_cache_kept_across_the_rope_boundary_is_seen(golden, monkeypatch):
    monkeypatch.setattr(modeling.Phi3VConfig, "switches_rope", False)
    case = golden.case("gen_cross_boundary_orig64")
    out = golden.model(case.config_file).generate(
        **case.inputs, max_new_tokens=16, do_sample=False, eos_token_id=None
    )
    new = out[:, case.inputs["input_ids"].shape[1] :]
    assert not torch.equal(new, case.expected["generated"])
    # This mistake is the older published code's own, which the golden data holds as well.
    assert torch.equal(new, case.expected["generated_phi3_revision"])


@torch.no_grad()
@pytest.mark.parametrize("shift", [0, 2])
def test_labels_shifted_by_another_distance_are_seen(golden, shift):
    case = golden.case("text_short_orig64")
    model = golden.model(case.config_file)

    def loss(logits, labels, vocab_size, **_):
        kept = logits[:, : logits.shape[1] - shift].flatten(0, 1)
        return nn.functional.cross_entropy(kept, labels[:, shift:].flatten())

    right = model(**case.inputs).loss
    assert abs(right.item() - case.meta["loss"]) < TOLERANCE
    model.loss_function = loss
    assert abs(model(**case.inputs).loss.item() - case.meta["loss"]) > 100 * TOLERANCE
