"""The gate: what `_target_` may name, and what becomes of a node that passes."""

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from phi3v.config.gate import allow, check_targets, instantiate, instantiate_source, settle
from phi3v.errors import UserError

DANGEROUS = [
    *("torch.load", "torch.hub.load", "numpy.load", "pickle.loads", "os.system", "builtins.eval"),
    "lightning.pytorch.LightningModule.load_from_checkpoint",
    "lightning.pytorch.core.saving.pl_load",
    "transformers.AutoModel.from_pretrained",
    # Names that our own modules import or define for themselves.
    *("phi3v.adapter.lora.get_peft_model", "phi3v.data.datamodule.Path", "phi3v.model.torch.load"),
    *("phi3v.training.module.LightningModule", "phi3v.adapter.lora.LoraConfig"),
    *("phi3v.adapter.load_adapter", "phi3v.data.splits.json", "phi3v.errors.UserError"),
    *("phi3v.run.jobs.Outcome", "phi3v.config.gate.instantiate", "phi3v.model", "phi3v"),
    *(
        "phi3v.model.Nothing",
        "phi3v.model.nothing.Nothing",
        "",
        "load",
        ".",
        "phi3v..model.Scratch",
    ),
]


@pytest.mark.parametrize("target", DANGEROUS)
def test_what_is_not_on_the_list_is_refused(target: str) -> None:
    with pytest.raises(UserError, match="_target_"):
        allow(target, "model")


def test_refusing_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\nclass Trap: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="not allowed"):
        instantiate({"_target_": "trap.Trap"})
    assert "trap" not in sys.modules


def test_a_target_is_found_however_deep_it_stands() -> None:
    deep = {"_target_": "phi3v.task.Task", "fields": {"a": [{"b": [{"_target_": "os.system"}]}]}}
    with pytest.raises(UserError, match=r"task\.fields\.a\[0\]\.b\[0\]\._target_=os\.system"):
        check_targets(deep, "task")


@pytest.mark.parametrize("word", ["_args_", "_partial_", "_recursive_", "_convert_"])
def test_hydras_own_words_are_refused(word: str) -> None:
    with pytest.raises(UserError, match=word):
        instantiate({"_target_": "phi3v.optim.Constant", word: True})


def test_constructors_get_plain_values_and_the_very_objects_they_are_given() -> None:
    cfg = OmegaConf.create(
        {
            "r": 4,
            "adapter": {
                "_target_": "phi3v.adapter.LoraAdapter",
                "r": "${r}",
                "alpha": 8,
                "scope": ["decoder"],
                "targets": {"decoder": ["qkv_proj"]},
            },
        }
    )
    adapter = instantiate(cfg.adapter)
    assert (adapter.r, type(adapter.scope), type(adapter.targets)) == (4, list, dict)
    assert type(adapter.targets["decoder"]) is list
    given = ["vision"]
    assert instantiate(cfg.adapter, scope=given).scope is given


def test_short_keys_are_handed_to_the_source() -> None:
    data = {
        "_target_": "phi3v.data.ImageTextDataModule",
        "source": {"_target_": "phi3v.data.CsvSource", "delimiter": ";"},
        "path": "a.csv",
        "batch_size": 2,
        "seed": 3,
    }
    settled = settle(data)
    assert settled["source"] == {
        "_target_": "phi3v.data.CsvSource",
        "delimiter": ";",
        "path": "a.csv",
    }
    assert settled.keys() == {"_target_", "source", "batch_size", "seed"}
    source = instantiate_source(data)
    assert (str(source.path), source.delimiter) == ("a.csv", ";")
    with pytest.raises(UserError, match="the same thing"):
        settle({**data, "delimiter": ","})


def test_what_both_understand_stays_with_the_data_module() -> None:
    data = {
        "_target_": "phi3v.data.ImageTextDataModule",
        "source": {"_target_": "phi3v.data.catalogue.Catalogue", "cache_dir": "x"},
        "seed": 3,
        "rows": 10,
    }
    settled = settle(data)
    assert settled["seed"] == 3
    assert settled["source"]["rows"] == 10
    assert "seed" not in settled["source"]


def test_an_error_of_a_constructor_reaches_the_user_as_it_is() -> None:
    with pytest.raises(UserError, match="min_ratio=7"):
        instantiate({"_target_": "phi3v.optim.Cosine", "warmup": 0.1, "min_ratio": 7})
