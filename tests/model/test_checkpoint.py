"""Checkpoints: saved and loaded bit for bit, strict, safetensors only, errors in one line."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from damaged import edit, refused
from safetensors.torch import load_file, save_file

from phi3v.errors import UserError
from phi3v.model import Checkpoint, Loaded, Phi3VForCausalLM, Phi3VProcessor, Scratch

ROOT = Path(__file__).parents[2]
PROMPT = "<|user|>\n<|image_1|>\nWhat is shown in this image?<|end|>\n<|assistant|>\n"


def test_what_is_saved_is_loaded_bit_for_bit(saved, scratch_model, picture):
    loaded = Checkpoint(str(saved)).load()
    assert isinstance(loaded, Loaded)
    assert type(loaded.model) is Phi3VForCausalLM
    assert type(loaded.processor) is Phi3VProcessor
    ours, theirs = loaded.model.state_dict(), scratch_model.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    inputs = [p(text=PROMPT, images=picture()) for p in (loaded.processor, scratch_model.processor)]
    assert all(torch.equal(inputs[0][key], inputs[1][key]) for key in inputs[1])
    assert not loaded.model.training


def test_the_files_are_the_published_ones_and_the_names_too(saved):
    files = {path.name for path in saved.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
    assert not any(name.endswith((".bin", ".py", ".pt")) for name in files)
    names = load_file(saved / "model.safetensors")
    assert "model.vision_embed_tokens.img_processor.vision_model.pre_layrnorm.weight" in names
    assert "model.vision_embed_tokens.glb_GN" in names
    assert not any("wte" in name or "position_ids" in name for name in names)


def test_weights_in_several_files_are_loaded(tmp_path, scratch_model):
    scratch_model.model.save_pretrained(tmp_path, max_shard_size="50KB")
    scratch_model.processor.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    loaded = Checkpoint(str(tmp_path)).load().model.state_dict()
    expected = scratch_model.model.state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_generation_ends_at_both_end_tokens_whatever_the_files_say(folder):
    edit(folder / "generation_config.json", eos_token_id=2)
    loaded = Checkpoint(str(folder)).load()
    generation = loaded.model.generation_config
    assert generation.eos_token_id == loaded.processor.end_of_turn_ids
    assert generation.pad_token_id == loaded.processor.tokenizer.pad_token_id
    loaded.save(folder)
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == list(
        loaded.processor.end_of_turn_ids
    )


def test_options_are_obeyed(saved):
    loaded = Checkpoint(
        str(saved), num_crops=2, dtype="bfloat16", attn_implementation="eager"
    ).load()
    assert loaded.processor.image_processor.num_crops == 2
    assert {value.dtype for value in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.model.config._attn_implementation == "eager"
    assert loaded.model.config.vision_config._attn_implementation == "eager"
    assert not loaded.model.is_activation_checkpointing
    again = Checkpoint(str(saved), gradient_checkpointing=True).load().model
    assert again.is_activation_checkpointing


def test_files_that_name_remote_code_are_loaded_without_running_it(folder):
    (folder / "modeling_phi3_v.py").write_text("raise SystemExit('remote code ran')\n")
    classes = {"AutoConfig": "modeling_phi3_v.A", "AutoModelForCausalLM": "modeling_phi3_v.B"}
    edit(folder / "config.json", auto_map=classes)
    edit(folder / "tokenizer_config.json", auto_map={"AutoProcessor": "modeling_phi3_v.C"})
    loaded = Checkpoint(str(folder)).load()
    assert type(loaded.model).__module__ == "phi3v.model.modeling"
    loaded.save(folder / "again")
    assert all("auto_map" not in file.read_text() for file in (folder / "again").glob("*.json"))


def test_an_old_style_preprocessor_file_is_loaded(folder):
    nested = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(nested))
    assert Checkpoint(str(folder)).load().processor.image_processor.crop_size == 24


def test_a_folder_that_is_not_there_is_named(tmp_path):
    message = refused(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message
    assert "no such checkpoint folder" in message


def test_a_folder_without_a_config_is_no_checkpoint(tmp_path):
    assert "has no config.json" in refused(tmp_path)


def test_a_config_of_another_model_is_refused(folder):
    edit(folder / "config.json", model_type="llama")
    assert "model type llama, not phi3_v" in refused(folder)


def test_a_damaged_config_is_named(folder):
    (folder / "config.json").write_text("{")
    assert "config.json cannot be loaded" in refused(folder)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("tokenizer.json", "it has no tokenizer.json, and nobody else's would do; copy that"),
        ("processor_config.json", "preprocessor_config.json cannot be loaded"),
    ],
)
def test_a_missing_file_is_named(folder, file, line):
    (folder / file).unlink()
    assert line in refused(folder)


def test_weights_that_are_not_there_are_named(folder):
    (folder / "model.safetensors").unlink()
    assert "weights are missing, there is neither model.safetensors nor" in refused(folder)


def test_weights_that_are_pickles_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert "weights are missing" in refused(folder)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_named_before_anything_is_trained_on_them(folder, number):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][3, 1] = number
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    told = f"{folder}: model.layers.1.mlp.down_proj.weight holds numbers that are not finite"
    assert refused(folder) == told
    loaded = Checkpoint(str(folder)).load(hollow=True)
    loaded.weights.vacate(loaded.model)
    with pytest.raises(UserError, match=re.escape(told)):
        loaded.weights.read_into(loaded.model, torch.device("cpu"))


@pytest.mark.parametrize("name", ["phi3_vision", "phi35_vision"])
def test_a_published_checkpoint_is_the_same_tomorrow(name):
    node = yaml.safe_load((ROOT / "conf" / "model" / f"{name}.yaml").read_text())
    assert node["path"].startswith("microsoft/")
    assert re.fullmatch("[0-9a-f]{40}", node["revision"])


def test_loading_prints_nothing(saved, capfd):
    Checkpoint(str(saved)).load()
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [("dtype", "float8"), *(("attn_implementation", one) for one in ("fast", "flex_attention"))],
)
def test_a_wrong_option_is_named_with_what_there_is(saved, option, value):
    message = refused(saved, **{option: value})  # the last one knows no way back on a CPU
    assert f"model.{option}: {value} is not one of " in message


def test_scratch_without_texts_or_with_a_wrong_config_is_refused(make_scratch, texts):
    with pytest.raises(UserError, match="needs texts"):
        make_scratch().load()
    odd = {"vision_config": {"image_size": 50, "patch_size": 14}}
    with pytest.raises(UserError, match="multiple of twice"):
        Scratch(config=odd, vocab_size=400, num_crops=4).load(lambda: texts)
    with pytest.raises(UserError, match=r"model\.config: .*hidden_size"):
        Scratch(config={"hidden_size": "wide"}, vocab_size=400, num_crops=4).load(lambda: texts)
    with pytest.raises(UserError, match="no key hiden_size, did you mean hidden_size"):
        Scratch(config={"hiden_size": 32}, vocab_size=400, num_crops=4).load(lambda: texts)
    misspelt = make_scratch().config | {"vision_config": {"imagesize": 24}}
    with pytest.raises(UserError, match=r"vision_config: there is no key imagesize"):
        make_scratch(config=misspelt).load(lambda: texts)
    with pytest.raises(UserError, match="vocab_size 10 is too small"):
        make_scratch(vocab_size=10).load(lambda: texts)
