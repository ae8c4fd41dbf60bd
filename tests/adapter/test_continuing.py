"""An adapter that begins where an earlier one ended: what it computes, and what it says no to."""

import copy
import re
import shutil

import pytest
import torch
import yaml
from kinds import SETTINGS
from peft import LoraConfig, get_peft_model

from phi3v.adapter import FullFineTuning, LoraAdapter, save_adapter, trained_state
from phi3v.errors import UserError
from phi3v.model.parts import PARTS
from phi3v.model.slices import WeightFiles, hollow

PLAIN = {"r": 2, "alpha": 4}
KINDS = {name: {**PLAIN, "scope": list(PARTS), **words} for name, words in SETTINGS.items()}
KINDS["whole beside"] = {**PLAIN, "whole": ["projector", "vision"]}


def moved(model):
    generator = torch.Generator().manual_seed(11)
    for tensor in trained_state(model).values():
        tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.05)
    return model


@pytest.fixture
def fresh(base):
    return copy.deepcopy(base)


@pytest.fixture
def saved(base, tmp_path):
    """Writes an adapter of given settings that has been trained; the folder and its model."""

    def save(**settings):
        model = moved(LoraAdapter(**settings).attach(base))
        save_adapter(model, tmp_path / "run" / "adapter")
        return tmp_path / "run" / "adapter", model

    return save


@pytest.mark.parametrize("name", KINDS)
def test_it_begins_with_the_logits_that_the_other_ended_with(saved, fresh, logits_of, name):
    folder, model = saved(**KINDS[name])
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    torch.manual_seed(99)
    again = LoraAdapter(**KINDS[name], init_from=str(folder)).attach(fresh)
    assert torch.equal(logits_of(again), logits_of(model))
    assert trained_state(again).keys() == trained_state(model).keys()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_the_directory_of_a_run_will_do(saved, fresh, logits_of):
    folder, model = saved(**PLAIN)
    again = LoraAdapter(**PLAIN, init_from=str(folder.parent)).attach(fresh)
    assert torch.equal(logits_of(again), logits_of(model))


def test_what_peft_has_written_on_the_published_names_will_do(base, fresh, logits_of, tmp_path):
    config = LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=["qkv_proj", "fc1"],
        exclude_modules=r".*layers\.2\..*", init_lora_weights="gaussian",
    )  # fmt: skip
    model = moved(get_peft_model(base, config))
    model.save_pretrained(str(tmp_path))
    targets = {"decoder": ["qkv_proj"], "vision": ["fc1"]}
    words = {"r": 3, "alpha": 6, "scope": ["decoder", "vision"], "targets": targets}
    again = LoraAdapter(**words, init_from=str(tmp_path)).attach(fresh)
    assert torch.equal(logits_of(again), logits_of(model))


def test_dropout_is_free_and_the_folder_may_be_gone_afterwards(saved, fresh, logits_of):
    folder, model = saved(**PLAIN)
    again = LoraAdapter(**PLAIN, dropout=0.5, init_from=str(folder)).attach(fresh)
    shutil.rmtree(folder)
    assert torch.equal(logits_of(again), logits_of(model))


OTHER = [
    ({"r": 4}, "adapter.r=4"),
    ({"alpha": 8}, "adapter.alpha=8"),
    ({"use_dora": True, "use_rslora": True}, "adapter.use_rslora=true adapter.use_dora=true"),
    ({"init": "pissa"}, "adapter.init=pissa"),
    ({"whole": ["projector"]}, "adapter.whole=[projector]"),
    ({"bias": "lora_only", "scope": ["vision"]}, "adapter.bias=lora_only"),
    ({"scope": ["decoder", "vision"]}, "adapter.scope=[decoder,vision]"),
    ({"targets": {"decoder": ["o_proj"]}}, "adapter.targets.decoder=[o_proj]"),
    (
        {"targets": {"decoder": ["layers.1.mlp.down_proj"]}},
        "adapter.targets.decoder=[layers.1.mlp.down_proj]",
    ),
]


def typed(words):
    """Settings as the command line would give them."""
    found = {}
    for key, value in (word.removeprefix("adapter.").split("=") for word in words.split()):
        plain = yaml.safe_load(value)
        if key.startswith("targets."):
            plain = {**found.get("targets", {}), key.removeprefix("targets."): plain}
            key = "targets"
        found[key] = plain
    return found


def begin(given, folder, base):
    """An adapter and nothing to say, or none and what to type instead."""
    try:
        return LoraAdapter(**given, init_from=str(folder)).attach(copy.deepcopy(base)), ""
    except UserError as error:
        return None, re.search("other settings; give (.*)$", str(error))[1]


@pytest.mark.parametrize(("settings", "words"), OTHER, ids=[words for _, words in OTHER])
def test_other_settings_are_refused_with_those_to_type_and_these_will_do(
    saved, fresh, logits_of, settings, words
):
    folder, model = saved(**{**PLAIN, **settings})
    given, said, again = dict(PLAIN), "", None
    while again is None:  # what needs no model is told first
        again, told = begin(given, folder, fresh)
        assert told not in said or again
        said, given = f"{said} {told}", {**given, **typed(told)}
    assert words in said
    assert torch.equal(logits_of(again), logits_of(model))


def test_all_that_differs_is_named_at_once_and_will_do_at_once(saved, fresh, logits_of):
    folder, model = saved(
        r=3, alpha=5, use_rslora=True, init="pissa", bias="lora_only", whole=["projector"],
        scope=["decoder", "vision"],
        targets={"decoder": ["o_proj", "layers.1.mlp.down_proj"], "vision": ["fc1"]},
    )  # fmt: skip
    again, said = begin({**PLAIN, "scope": ["vision"]}, folder, fresh)
    assert again is None
    keys = {word.split("=")[0].removeprefix("adapter.") for word in said.split()}
    assert keys == {
        *("r", "alpha", "use_rslora", "init", "bias", "whole", "scope"),
        *("targets.decoder", "targets.vision"),
    }
    again, said = begin(typed(said), folder, fresh)
    assert said == ""
    assert torch.equal(logits_of(again), logits_of(model))


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["qkv_proj", "o_proj"], "layers_to_transform": [1]},
        {"target_modules": ["qkv_proj", "o_proj"], "exclude_modules": r".*layers\.0\..*"},
        {"target_modules": r".*layers\.1\..*(qkv_proj|o_proj)"},
    ],
)
def test_modules_that_no_short_name_means_are_named_in_full_at_once(
    base, fresh, tmp_path, settings
):
    config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, **settings)
    get_peft_model(base, config).save_pretrained(str(tmp_path))
    _, said = begin(PLAIN, tmp_path, fresh)
    attention = [f"model.layers.1.self_attn.{name}" for name in ("o_proj", "qkv_proj")]
    assert sorted(typed(said)["targets"]["decoder"]) == attention
    assert begin({**PLAIN, **typed(said)}, tmp_path, fresh)[1] == ""


def test_all_modules_that_differ_are_named_at_once_where_only_a_model_tells(saved, fresh):
    targets = {"decoder": ["layers.0.mlp.down_proj"], "vision": ["layers.1.mlp.fc1"]}
    folder, _ = saved(**PLAIN, scope=["decoder", "vision"], targets=targets)
    given = {"decoder": ["down_proj"], "vision": ["fc1"]}
    _, said = begin({**PLAIN, "scope": ["decoder", "vision"], "targets": given}, folder, fresh)
    assert {key: len(names) for key, names in typed(said)["targets"].items()} == {
        "decoder": 1,
        "vision": 1,
    }
    assert begin({**PLAIN, **typed(said), "scope": ["decoder", "vision"]}, folder, fresh)[1] == ""


@pytest.mark.parametrize("settings", [{}, {"bias": "lora_only"}, {"use_dora": True}])
def test_what_one_has_on_modules_that_nothing_reads_is_left_out_with_a_line(
    base, fresh, logits_of, tmp_path, caplog, settings
):
    config = LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=["q_proj", "fc1"],
        init_lora_weights="gaussian", **settings,
    )  # fmt: skip
    model = moved(get_peft_model(base, config))
    model.save_pretrained(str(tmp_path))
    words = {**PLAIN, "scope": ["vision"], "targets": {"vision": ["fc1", "q_proj"]}, **settings}
    with caplog.at_level("INFO", logger="phi3v"):
        again = LoraAdapter(**words, init_from=str(tmp_path)).attach(fresh)
    assert torch.equal(logits_of(again), logits_of(model))
    (line,) = caplog.messages
    assert re.search(r"layers\.2\..*, which nothing reads; what it has on 2 such modules", line)
    other = {**words, "targets": {"vision": ["q_proj"]}}  # the rest has to be the same
    with pytest.raises(UserError, match=r"adapter\.targets\.vision=\[fc1,q_proj\]"):
        LoraAdapter(**other, init_from=str(tmp_path))


def test_a_start_that_was_subtracted_is_not_taken_for_another(saved, fresh):
    folder, _ = saved(**PLAIN)
    with pytest.raises(UserError, match=r"give adapter\.init=default$"):
        LoraAdapter(**PLAIN, init="pissa", init_from=str(folder))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_pattern": {"qkv_proj": 3}}, "rank_pattern.*cannot be trained here"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]"),
        (
            {
                "rank_pattern": {"qkv_proj": 3},
                "alpha_pattern": {"qkv_proj": 8},
                "modules_to_save": ["lm_head"],
            },
            r"has rank_pattern=.* and alpha_pattern=.* and modules_to_save=\['lm_head'\], which",
        ),
    ],
)
def test_what_only_peft_can_do_is_refused(base, tmp_path, settings, message):
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["qkv_proj"], **settings)
    get_peft_model(base, config).save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match=message):
        LoraAdapter(**PLAIN, init_from=str(tmp_path))


def test_no_adapter_and_a_whole_model_are_told_apart(base, tmp_path):
    with pytest.raises(UserError, match=r"adapter\.init_from=.*no adapter_config\.json in it"):
        LoraAdapter(**PLAIN, init_from=str(tmp_path))
    save_adapter(FullFineTuning().attach(base), tmp_path / "model")
    with pytest.raises(UserError, match=r"whole model; give model\.path=.*model"):
        LoraAdapter(**PLAIN, init_from=str(tmp_path))


@pytest.mark.parametrize("name", ["whole beside", "bias"])
def test_what_it_replaces_of_a_base_that_is_read_later_stays(
    saved, fresh, logits_of, tmp_path, name
):
    folder, model = saved(**KINDS[name])
    fresh.save_pretrained(tmp_path / "base")
    weights = WeightFiles(tmp_path / "base")
    adapter = LoraAdapter(**KINDS[name], init_from=str(folder))
    assert not adapter.reads_weights
    again = adapter.attach(hollow(fresh.config, torch.float32))
    weights.vacate(again)
    weights.read_into(again, torch.device("cpu"))
    assert torch.equal(logits_of(again), logits_of(model))
    assert trained_state(again).keys() == trained_state(model).keys()
