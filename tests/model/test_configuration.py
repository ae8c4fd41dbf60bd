"""The configuration takes the published keys as they are."""

import copy
import json
import math
from importlib import resources

import pytest
import torch
from transformers import AutoConfig, CLIPVisionConfig

from phi3v.model import Phi3VConfig
from phi3v.model.vision import count_image_tokens

ROPE = {"type": "su", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
SMALL = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
    "original_max_position_embeddings": 64,
    "rope_scaling": ROPE,
}


def test_without_arguments_it_is_the_published_size():
    config = Phi3VConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (3072, 32, 32064)
    clip = config.vision_config
    assert (clip.hidden_size, clip.num_hidden_layers, clip.image_size) == (1024, 24, 336)
    assert (config.crop_grid, config.vision_depth) == (12, 23)


def test_su_becomes_longrope_with_both_context_lengths():
    rope = Phi3VConfig(**SMALL).rope_parameters
    assert rope["rope_type"] == "longrope"
    assert rope["original_max_position_embeddings"] == 64
    assert rope["factor"] == 16
    assert "attention_factor" not in rope
    assert ROPE["type"] == "su"  # what was passed in stays as it was


def test_yarn_is_longrope_with_its_own_attention_factor():
    config = Phi3VConfig(**SMALL | {"rope_scaling": ROPE | {"type": "yarn"}})
    assert config.rope_parameters["attention_factor"] == 0.1 * math.log(16) + 1


def test_without_rope_scaling_nothing_switches():
    assert Phi3VConfig(**SMALL).switches_rope
    assert not Phi3VConfig(**SMALL | {"rope_scaling": None}).switches_rope


def test_absent_keys_of_the_vision_config_are_those_of_the_published_tower():
    clip = Phi3VConfig(vision_config={"image_size": 48, "patch_size": 8}).vision_config
    assert isinstance(clip, CLIPVisionConfig)
    assert (clip.image_size, clip.patch_size, clip.hidden_size) == (48, 8, 1024)


@pytest.mark.parametrize("kind", ["su", "yarn", None])
def test_it_is_the_same_after_saving_and_loading(tmp_path, kind):
    # 768 is the default of CLIPVisionConfig: a value must survive that looks like a default.
    values = SMALL | {"vision_config": {"hidden_size": 768, "patch_size": 28}}
    config = Phi3VConfig(**values | {"rope_scaling": ROPE | {"type": kind} if kind else None})
    config.save_pretrained(tmp_path)
    for loader in (Phi3VConfig, AutoConfig):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is Phi3VConfig
        loaded.name_or_path = ""
        assert loaded.to_dict() == config.to_dict()
    json.loads(config.to_json_string())


PUBLISHED = ("phi3_vision", "phi35_vision")
NOT_OF_THE_MODEL = ("auto_map", "_attn_implementation", "_name_or_path", "transformers_version")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_keeps_what_it_says_when_it_is_written_anew(tmp_path, name):
    text = (resources.files("phi3v.model") / "published" / f"{name}.json").read_text()
    published = json.loads(text)["config"]
    config = Phi3VConfig(**copy.deepcopy(published))
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    lost = [
        key for key, value in published.items()
        if key not in NOT_OF_THE_MODEL and written.get(key) != value
    ]  # fmt: skip
    assert lost == []
    again = Phi3VConfig.from_pretrained(tmp_path)
    assert again.rope_parameters == config.rope_parameters
    assert again.dtype == config.dtype == torch.bfloat16
    again.name_or_path = ""
    assert again.to_dict() == config.to_dict()


@pytest.mark.parametrize("kind", ["su", "yarn"])
def test_the_published_code_finds_the_rope_that_the_model_has(tmp_path, kind):
    rope = ROPE | {"type": kind}
    theta = {"rope_theta": 5000.0, "partial_rotary_factor": 1.0}
    Phi3VConfig(**SMALL | {"rope_scaling": rope, "rope_theta": 5000.0}).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["rope_scaling"] == rope
    assert written["rope_theta"] == 5000.0
    own = written["rope_parameters"]
    assert own == {**own, **theta, "rope_type": "longrope", "short_factor": rope["short_factor"]}
    # What only the published keys say has the same meaning, and they may be changed alone.
    plain = {key: value for key, value in written.items() if key != "rope_parameters"}
    assert Phi3VConfig(**copy.deepcopy(plain)).rope_parameters == own
    changed = rope | {"long_factor": [3.0] * 4}
    other = Phi3VConfig(**copy.deepcopy(written | {"rope_scaling": changed})).rope_parameters
    assert other == {**own, "long_factor": [3.0] * 4}


def test_an_attention_factor_of_its_own_is_not_told_as_one_that_the_published_code_has(tmp_path):
    rope = ROPE | {"type": "longrope", "attention_factor": 1.3}
    Phi3VConfig(**SMALL | {"rope_scaling": rope}).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["rope_scaling"]["type"] == "longrope"  # which it refuses
    assert Phi3VConfig.from_pretrained(tmp_path).rope_parameters["attention_factor"] == 1.3


def test_without_rope_scaling_none_is_written(tmp_path):
    Phi3VConfig(**SMALL | {"rope_scaling": None}).save_pretrained(tmp_path)
    assert "rope_scaling" not in json.loads((tmp_path / "config.json").read_text())
    assert not Phi3VConfig.from_pretrained(tmp_path).switches_rope


def test_a_published_file_loads_and_its_remote_code_and_attention_are_left_out(tmp_path):
    published = SMALL | {
        "model_type": "phi3_v",
        "auto_map": {"AutoConfig": "configuration_phi3_v.Phi3VConfig"},
        "_attn_implementation": "flash_attention_2",
        "torch_dtype": "bfloat16",
        "embd_layer": {"hd_transform_order": "sub_glb", "use_hd_transform": True},
        "img_processor": {"image_dim_out": 1024, "name": "clip_vision_model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(published))
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is Phi3VConfig
    assert not hasattr(config, "auto_map")
    assert config._attn_implementation is None
    assert "auto_map" not in config.to_dict()


def test_an_attention_implementation_can_be_given_by_part():
    config = Phi3VConfig(attn_implementation={"": "sdpa", "vision_config": "eager"})
    assert config._attn_implementation == "sdpa"
    assert config.vision_config._attn_implementation == "eager"


@pytest.mark.parametrize(("layer", "depth"), [(None, 23), (-1, 24), (-2, 23), (0, 0), (5, 5)])
def test_the_layer_index_says_how_many_clip_layers_run(layer, depth):
    given = {} if layer is None else {"layer_idx": layer}
    assert Phi3VConfig(img_processor=given).vision_depth == depth


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_config": {"image_size": 50, "patch_size": 14}}, "multiple of twice"),
        ({"hidden_size": 100, "num_attention_heads": 3}, "hidden_size 100 must be a multiple"),
        ({"hidden_size": 90, "num_attention_heads": 6}, "hidden_size 90 must be a multiple"),
        ({"num_attention_heads": 32, "num_key_value_heads": 5}, "num_key_value_heads 5"),
        ({"img_processor": {"layer_idx": 30}}, "hidden states of the vision tower"),
        ({"img_processor": {"type_feature": "cls_patch"}}, "type_feature"),
        ({"img_processor": {"image_dim_out": 768}}, "image_dim_out"),
        ({"embd_layer": {"use_hd_transform": False}}, "use_hd_transform"),
        ({"embd_layer": {"projection_cls": "linear"}}, "projection_cls"),
        ({"embd_layer": {"hd_transform_order": "glb"}}, "hd_transform_order"),
    ],
)
def test_what_is_not_built_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Phi3VConfig(**changes)


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((1, 1), 313), ((1, 4), 745), ((4, 1), 781), ((2, 2), 757), ((4, 4), 2509), ((2, 8), 2485)],
)
def test_published_token_counts(size, tokens):
    assert count_image_tokens(336 * size[0], 336 * size[1], 336, 12) == tokens


def test_the_original_context_may_stand_among_the_rope_parameters():
    factors = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 64, **factors}
    config = Phi3VConfig(max_position_embeddings=1024, rope_parameters=rope)
    assert config.original_max_position_embeddings == 64
    assert config.rope_parameters["factor"] == 16
