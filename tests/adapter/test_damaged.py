"""A damaged adapter's folder is refused in one line that names it, by whoever reads it."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from phi3v.adapter import LoraAdapter, add_adapter, load_adapter, merge_into, save_adapter
from phi3v.adapter.reading import read_adapter, read_adapter_config, read_settings
from phi3v.errors import UserError


@pytest.fixture
def folder(base, tmp_path):
    """An adapter as it should be."""
    save_adapter(LoraAdapter(r=2, alpha=4).attach(copy.deepcopy(base)), tmp_path / "adapter")
    return tmp_path / "adapter"


def change(folder, **settings):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def refused(read, *given):
    """The one line that a reader refuses with."""
    with pytest.raises(UserError) as caught:
        read(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite(base, folder, number, dtype):
    file = folder / "adapter_model.safetensors"
    weights = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    name = sorted(weights)[3]
    weights[name][0, 1] = number
    save_file(weights, file)
    told = f"{folder}: {name} holds numbers that are not finite"
    assert refused(read_adapter, folder) == told
    for read in (load_adapter, merge_into):
        assert refused(read, copy.deepcopy(base), folder) == told


def test_weights_in_one_byte_are_looked_at_as_well(folder):
    file = folder / "adapter_model.safetensors"
    eight = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(file).items()}
    save_file(eight, file)
    assert read_adapter(folder)[1].keys() == eight.keys()
    name = sorted(eight)[0]
    save_file({**eight, name: torch.full((2, 2), torch.nan).to(torch.float8_e4m3fn)}, file)
    assert f"{name} holds numbers" in refused(read_adapter, folder)


def test_targets_that_are_not_in_this_model(base, folder):
    there = {"qkv_proj", "down_proj", "img_projection.0", "q_proj", "fc2"}
    model = load_adapter(copy.deepcopy(base), folder)
    for targets, told in ((["wq", "c_attn"], "['c_attn', 'wq']"), (".*wq", ".*wq")):
        change(folder, target_modules=targets)
        for line in (
            refused(load_adapter, copy.deepcopy(base), folder),
            refused(merge_into, copy.deepcopy(base), folder),
            refused(add_adapter, model, folder, "second"),
        ):
            assert f"{folder}: its target_modules={told} match nothing in this model" in line
            assert there <= set(line.split("it has: ")[1].split(", "))


def test_a_target_that_is_no_linear_module(base, folder):
    change(folder, target_modules=["input_layernorm"])
    line = refused(load_adapter, base, folder)
    assert line.startswith(f"{folder}: ")
    assert "input_layernorm" in line


@pytest.mark.parametrize("content", ["5", "[]", "null", '"LORA"', "{"])
def test_a_configuration_that_holds_no_settings(base, folder, content):
    (folder / "adapter_config.json").write_text(content)
    for line in (
        refused(read_settings, folder),
        refused(read_adapter_config, folder),
        refused(load_adapter, base, folder),
    ):
        assert line.startswith(f"{folder}/adapter_config.json: the adapter cannot be read")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("peft_type", value) for value in ("NOPE", None, ["LORA"], "IA3")],
        *[("r", value) for value in ("8", None, -1, 0, 2.5, True)],
        *[("lora_alpha", value) for value in ("4", None, float("nan"))],
        *[("bias", value) for value in ("some", None, 5)],
        *[("init_lora_weights", value) for value in (5, ["pissa"])],
        ("modules_to_save", 5),
        *[
            ("target_modules", value)
            for value in (5, [5], ["qkv_proj", "embed_tokens"], "embed_tokens")
        ],
        ("lora_dropout", "much"),
    ],
)
def test_a_setting_that_no_adapter_has_is_named_before_there_is_a_model(folder, key, value):
    change(folder, **{key: value})
    line = refused(read_settings, folder)
    assert line.startswith(f"{folder}: ")
    assert key in line or value == "IA3"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("target_modules", value) for value in (None, "*(", [])],
        *[("init_lora_weights", value) for value in ("magic", "pissa_niter_x")],
    ],
)
def test_a_setting_that_peft_does_not_put_on_a_model(base, folder, key, value):
    change(folder, **{key: value})
    for read in (load_adapter, merge_into):
        assert refused(read, copy.deepcopy(base), folder).startswith(f"{folder}: ")
