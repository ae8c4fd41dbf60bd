"""An adapter whose start was taken out of the weights knows these, whatever they are called."""

import copy
import json
import logging
import shutil

import pytest
import torch
from left_behind import moved
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from phi3v.adapter import LoraAdapter, load_adapter, merge_into, save_adapter
from phi3v.adapter.made_on import is_other, read_sample, sample
from phi3v.adapter.order import check_base
from phi3v.errors import UserError

PLAIN = {"r": 2, "alpha": 4}
STARTS = ("pissa", "olora", "pissa_niter_2")
FILE = "adapter_model.safetensors"


def saved(base, run, **settings):
    """The adapter's folder of a run, trained on a copy of a base."""
    model = moved(LoraAdapter(**{**PLAIN, **settings}).attach(copy.deepcopy(base)))
    save_adapter(model, run / "adapter")
    return run / "adapter"


def other_than(base):
    """A base of the same shapes with other weights in one layer."""
    other = copy.deepcopy(base)
    generator = torch.Generator().manual_seed(2)
    weight = other.model.layers[1].mlp.down_proj.weight.data
    weight.add_(torch.randn(weight.shape, generator=generator), alpha=1e-3)
    return other


def refused(read, *given, **named):
    """The one line that a reader refuses with."""
    with pytest.raises(UserError) as caught:
        read(*given, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def begin(base, folder, **settings):
    return LoraAdapter(**{**PLAIN, **settings}, init_from=str(folder)).attach(copy.deepcopy(base))


@pytest.mark.parametrize("init", STARTS)
def test_on_other_weights_it_is_refused_by_whoever_reads_it(base, tmp_path, init):
    folder = saved(base, tmp_path / "run", init=init)
    (tmp_path / "run" / "config.yaml").write_text("model: {path: /models/base, merge: []}\n")
    other = other_than(base)
    told = f"its start ({init}) was taken out of the base that it was trained on, and only onto"
    give = "give model.path=/models/base model.merge=[], with the weights that were there then"
    line = refused(load_adapter, copy.deepcopy(other), folder)
    assert line == f"{folder}: {told} that one can it be put; {give}"
    line = refused(merge_into, copy.deepcopy(other), folder.parent)
    assert line == f"model.merge={folder}: {told} that one can it be merged; {give}"
    line = refused(begin, other, folder, init=init)
    assert line == f"adapter.init_from={folder}: {told} that one can it be put; {give}"
    for read in (load_adapter, merge_into):
        read(copy.deepcopy(base), folder)
    begin(base, folder, init=init)


def test_without_a_run_beside_it_the_base_that_it_names_is_told(base, tmp_path):
    folder = saved(base, tmp_path / "run", init="pissa")
    line = refused(load_adapter, other_than(base), folder)
    assert line.endswith("no config.yaml of a run beside it says which that was")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "a/b"}))
    line = refused(load_adapter, other_than(base), folder)
    assert line.endswith("give model.path=a/b, with the weights that were there then")


def test_an_adapter_that_leaves_the_base_alone_goes_onto_any(base, tmp_path):
    folder = saved(base, tmp_path / "run")
    assert not read_sample(folder)
    load_adapter(other_than(base), folder)


def test_a_run_that_was_moved_is_the_one_that_was_merged(base, logits_of, tmp_path):
    first = saved(base, tmp_path / "first")
    merged = merge_into(copy.deepcopy(base), first)
    second = saved(merged, tmp_path / "second", init="pissa")
    (tmp_path / "second" / "config.yaml").write_text(f"model: {{path: b, merge: ['{first}']}}\n")
    wanted = logits_of(load_adapter(copy.deepcopy(merged), second))
    moved_away = shutil.move(tmp_path / "first", tmp_path / "elsewhere")
    again = merge_into(copy.deepcopy(base), moved_away)
    again = merge_into(again, second, before=[moved_away])
    torch.testing.assert_close(logits_of(again), wanted, atol=1e-4, rtol=1e-4)
    line = refused(merge_into, base, second, before=[])
    assert line.endswith(f"right before it put [{first}] and nothing else")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_same_base_in_another_type_is_the_same(base, tmp_path, dtype):
    rounded = copy.deepcopy(base).to(dtype)
    load_adapter(rounded, saved(base, tmp_path / "fine", init="pissa"))
    folder = saved(copy.deepcopy(base).bfloat16(), tmp_path / "coarse", init="pissa")
    load_adapter(copy.deepcopy(base), folder)
    assert is_other(read_sample(folder), sample(other_than(base)))


def test_what_differs_in_the_last_digits_is_the_same(base):
    then = sample(base)
    noise = {name: one * (1 + 1e-6 * torch.randn(16)) for name, one in then.items()}
    assert not is_other(then, noise)
    weak = {name: one * (1 + 1e-3 * torch.randn(16)) for name, one in then.items()}
    assert is_other(then, weak)


def test_the_numbers_stand_in_the_header_and_nowhere_else(base, tmp_path):
    folder = saved(base, tmp_path / "run", init="pissa")
    with safe_open(folder / FILE, "pt") as file:
        assert file.metadata().keys() == {"format", "made_on"}
        assert all(".lora_" in name for name in file.keys())  # noqa: SIM118
    numbers = read_sample(folder)
    assert numbers.keys() == {
        f"model.layers.{layer}.{module}"
        for layer in (0, 1)
        for module in (
            "self_attn.qkv_proj",
            "self_attn.o_proj",
            "mlp.gate_up_proj",
            "mlp.down_proj",
        )
    }
    before = sample(base)
    assert all(torch.equal(one, before[name]) for name, one in numbers.items())
    assert all(len(one.unique()) == 16 for one in numbers.values())


def test_the_same_adapter_is_the_same_bytes(base, tmp_path):
    model = moved(LoraAdapter(**PLAIN, init="pissa").attach(copy.deepcopy(base)))
    for number in range(8):  # the order would be the same by chance in one of 128 cases
        save_adapter(model, tmp_path / str(number))
    files = {(tmp_path / str(number) / FILE).read_bytes() for number in range(8)}
    assert len(files) == 1
    with safe_open(tmp_path / "0" / FILE, "pt") as opened:
        assert opened.metadata().keys() == {"format", "made_on"}


def test_one_that_does_not_know_its_base_is_taken_with_a_warning(base, tmp_path, caplog):
    folder = saved(base, tmp_path / "run", init="pissa")
    base.name_or_path = str(tmp_path)
    file = folder / "adapter_config.json"
    settings = {**json.loads(file.read_text()), "base_model_name_or_path": str(tmp_path / ".")}
    file.write_text(json.dumps(settings))
    save_file(load_file(folder / FILE), folder / FILE)  # as PEFT alone writes it
    with caplog.at_level(logging.WARNING):
        load_adapter(copy.deepcopy(base), folder)
        assert not caplog.messages  # it names this base
        base.name_or_path = "somebody/model"
        load_adapter(base, folder)
    (line,) = caplog.messages
    assert line.startswith(f"{folder}: its start (pissa) was taken out of {tmp_path}")
    assert "this base (somebody/model)" in line


def test_one_that_does_not_know_its_base_goes_on_where_nothing_was_merged(base, tmp_path):
    folder = saved(base, tmp_path / "run", init="pissa")
    save_file(load_file(folder / FILE), folder / FILE)
    check_base(folder, before=[], key="adapter.init_from")
    line = refused(check_base, folder, before=["first"], key="adapter.init_from")
    assert line.endswith("says which that was; leave out model.merge")
    line = refused(check_base, folder, before=["first"])
    assert line.endswith("says which that was; put it first")


OURS, OTHERS = "microsoft/Phi-3.5-vision-instruct", "microsoft/Phi-3-vision-128k-instruct"


@pytest.mark.parametrize(
    ("made_on", "put_on", "warns"),
    [(OURS, OTHERS, True), (OURS, OURS, False), ("/models/a", OTHERS, False), (OURS, "", False)],
)
def test_a_plain_adapter_of_another_model_of_the_hub_is_told(
    base, tmp_path, caplog, made_on, put_on, warns
):
    base.name_or_path = made_on
    folder = saved(base, tmp_path / "run")
    base.name_or_path = put_on
    with caplog.at_level(logging.WARNING, logger="phi3v"):
        load_adapter(copy.deepcopy(base), folder)
        begin(base, folder)
        merge_into(base, folder)
    told = f"{folder}: this adapter was trained on {made_on}, and this base is {put_on}; that it"
    assert [line.startswith(told) for line in caplog.messages] == 3 * [True] * warns
