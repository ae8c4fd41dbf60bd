"""What was trained goes out and comes back unchanged, and nothing else is taken for it."""

import copy
import json

import pytest
import torch
from left_behind import moved
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from phi3v.adapter import (
    FullFineTuning,
    LoraAdapter,
    load_adapter,
    load_trained_state,
    save_adapter,
    trained_state,
)
from phi3v.errors import UserError
from phi3v.model.parts import PARTS

ALL = list(PARTS)
KINDS = {
    "lora": LoraAdapter(r=2, alpha=4, scope=ALL),
    "decoder": LoraAdapter(r=2, alpha=4),
    "rslora": LoraAdapter(r=2, alpha=4, use_rslora=True),
    "dora": LoraAdapter(r=2, alpha=4, scope=ALL, use_dora=True),
    "biases": LoraAdapter(r=2, alpha=4, scope=ALL, bias="lora_only"),
    "gaussian": LoraAdapter(r=2, alpha=2, init="gaussian"),
    "orthogonal": LoraAdapter(r=2, alpha=2, init="orthogonal"),
    "pissa": LoraAdapter(r=2, alpha=2, init="pissa"),
    "fast pissa": LoraAdapter(r=2, alpha=2, init="pissa_niter_2"),
    "pissa and dora": LoraAdapter(r=2, alpha=2, init="pissa", use_dora=True, scope=ALL),
    "olora": LoraAdapter(r=2, alpha=4, scope=ALL, init="olora"),
    "whole projector": LoraAdapter(r=2, alpha=4, whole=["projector"]),
    "whole vision": LoraAdapter(r=2, alpha=4, whole=["projector", "vision"], use_dora=True),
    "full": FullFineTuning(scope=ALL),
    "full projector": FullFineTuning(scope=["projector"]),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def fresh_base(base):
    """A second copy of the base, as another process would load it."""
    return copy.deepcopy(base)


def test_a_trained_state_gives_the_same_logits_bit_for_bit(kind, base, fresh_base, logits_of):
    model = moved(kind.attach(base))
    wanted = logits_of(model)
    state = {name: tensor.clone() for name, tensor in trained_state(model).items()}
    again = kind.attach(fresh_base)
    assert not torch.equal(logits_of(again), wanted)
    load_trained_state(again, state)
    assert torch.equal(logits_of(again), wanted)


def test_a_saved_adapter_gives_the_same_logits_bit_for_bit(
    kind, base, fresh_base, logits_of, tmp_path
):
    model = moved(kind.attach(base))
    save_adapter(model, tmp_path)
    torch.manual_seed(99)  # where it is loaded, nothing is drawn as it was in training
    again = load_adapter(fresh_base, tmp_path)
    assert torch.equal(logits_of(again), logits_of(model))
    frozen = not any(parameter.requires_grad for parameter in again.parameters())
    assert frozen == isinstance(again, PeftModel)


def test_a_saved_adapter_loads_into_one_that_is_attached(base, fresh_base, logits_of, tmp_path):
    model = moved(KINDS["dora"].attach(base))
    save_adapter(model, tmp_path)
    again = load_adapter(KINDS["dora"].attach(fresh_base), tmp_path)
    assert torch.equal(logits_of(again), logits_of(model))
    assert all("lora_" in name for name in trained_state(again))


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_whoever_may_read_the_folder_may_read_its_files(base, tmp_path, kind):
    save_adapter(KINDS[kind].attach(base), tmp_path / "adapter")
    folder = (tmp_path / "adapter").stat().st_mode
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "adapter").iterdir()}
    assert modes == {folder & 0o666}


def test_peft_itself_reads_the_folder(base, fresh_base, logits_of, tmp_path):
    model = moved(KINDS["lora"].attach(base))
    save_adapter(model, tmp_path)
    again = PeftModel.from_pretrained(fresh_base, str(tmp_path))
    assert torch.equal(logits_of(again), logits_of(model))


def test_the_keys_are_those_of_the_published_code(base, tmp_path):
    save_adapter(KINDS["decoder"].attach(base), tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        keys = set(file.keys())
    modules = ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"]
    assert keys == {
        f"base_model.model.model.layers.{layer}.{module}.lora_{matrix}.weight"
        for layer in range(2)
        for module in modules
        for matrix in "AB"
    }


def test_the_config_is_plain_json_with_the_short_names_where_they_suffice(base, tmp_path):
    save_adapter(KINDS["decoder"].attach(base), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    assert config["task_type"] == "CAUSAL_LM"
    assert config["inference_mode"] is True


def test_an_adapter_made_by_peft_on_the_published_names_loads(
    base, fresh_base, logits_of, tmp_path
):
    config = LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=["qkv_proj", "o_proj"])
    model = moved(get_peft_model(base, config))
    model.save_pretrained(str(tmp_path))
    assert torch.equal(logits_of(load_adapter(fresh_base, tmp_path)), logits_of(model))


def test_a_fully_trained_model_is_written_in_the_published_layout(base, tmp_path):
    model = moved(FullFineTuning(scope=ALL).attach(base))
    save_adapter(model, tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    assert set(written) == set(model.state_dict())
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "phi3_v"


def test_a_state_with_a_missing_tensor_is_refused_and_nothing_changes(base):
    model = KINDS["lora"].attach(base)
    state = {name: tensor + 1 for name, tensor in trained_state(model).items()}
    before = {name: tensor.clone() for name, tensor in trained_state(model).items()}
    name = list(state)[-1]
    del state[name]
    with pytest.raises(UserError, match=f"1 missing: {name}"):
        load_trained_state(model, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained_state(model).items())


def test_a_state_with_an_unexpected_tensor_is_refused(base):
    model = KINDS["decoder"].attach(base)
    state = {**trained_state(model), "lm_head.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"1 unexpected: lm_head\.weight"):
        load_trained_state(model, state)


def test_a_state_of_another_rank_is_refused(base, fresh_base):
    state = trained_state(LoraAdapter(r=3, alpha=4).attach(fresh_base))
    with pytest.raises(UserError, match=r"has shape \(3, 32\), here it is \(2, 32\)"):
        load_trained_state(KINDS["decoder"].attach(base), state)


def test_an_adapter_of_other_settings_is_refused(base, fresh_base, tmp_path):
    save_adapter(KINDS["decoder"].attach(fresh_base), tmp_path)
    other = LoraAdapter(r=2, alpha=8).attach(base)
    with pytest.raises(UserError, match="its lora_alpha is 4, the attached adapter's 8"):
        load_adapter(other, tmp_path)


def test_a_folder_that_lost_a_tensor_is_refused(base, fresh_base, tmp_path):
    save_adapter(KINDS["decoder"].attach(fresh_base), tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights.popitem()
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="1 missing"):
        load_adapter(base, tmp_path)


def test_an_empty_folder_and_pickled_weights_are_refused(base, tmp_path):
    with pytest.raises(UserError, match=r"neither adapter_config\.json nor model\.safetensors"):
        load_adapter(base, tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(UserError, match="pickled weights are not read"):
        load_adapter(base, tmp_path)


def test_saving_a_whole_model_leaves_the_screen_alone(base, tmp_path, capsys):
    save_adapter(FullFineTuning().attach(base), tmp_path)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize("torn", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_torn_file_of_an_adapter_is_one_line(base, fresh_base, tmp_path, torn):
    save_adapter(LoraAdapter(r=2, alpha=4).attach(base), tmp_path)
    whole = (tmp_path / torn).read_bytes()
    (tmp_path / torn).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="the adapter cannot be read") as caught:
        load_adapter(fresh_base, tmp_path)
    assert "\n" not in str(caught.value)
