"""The card of an exported model says where it comes from and how it is loaded."""

import json
import shutil

import yaml
from made_run import TINY

from phi3v.run.recorded import read_run

from .conftest import export


def test_the_card_tells_where_the_model_comes_from(phi3v, lora_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(lora_run, run)
    systems = {"base": {"full_price/mape": 0.5}, "fine_tuned": {"full_price/mape": 0.123}}
    systems["blank"] = {"full_price/mape": 0.45}
    summary = {"subject": "Fine-tuned", "split": "test", "rows": {"test": 7}, "systems": systems}
    summary["verdict"] = ["It looks at its pictures."]
    (run / "metrics.json").write_text(json.dumps(summary))
    (run / "environment.json").write_text(json.dumps({"packages": {"torch": "1.2.3"}}))
    ended = export(phi3v, run, tmp_path / "my-model")
    card = (tmp_path / "my-model/README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "image-text-to-text"
    assert front["library_name"] == "transformers"
    assert {"license", "base_model"}.isdisjoint(front)  # of the small model that ships
    assert "question: What is shown in this image?" in card
    assert "LoRA, rank 4, alpha 32, on decoder" in card
    assert "|  | Before training | Fine-tuned | blank picture |" in card
    assert "| full_price MAPE | 50.0 % | 12.3 % | 45.0 % |" in card
    assert "Answers to 7 examples of the test split" in card
    assert "It looks at its pictures." in card
    assert "trained with torch 1.2.3" in card
    assert 'Checkpoint("my-model")' in card
    assert "vLLM, in the copies that were read (2026-11; not tried)" in card
    assert str(TINY) not in card
    for line in ended.out.splitlines()[:-1]:
        assert line in card


def test_the_card_of_a_published_base_names_it_and_its_licence(lora_run):
    from phi3v.run.card import adapter_card, model_card

    recorded = read_run(lora_run)
    recorded.config["model"]["path"] = "microsoft/Phi-3.5-vision-instruct"
    for make, relation, library in (
        (model_card, "finetune", "transformers"),
        (adapter_card, "adapter", "peft"),
    ):
        front = yaml.safe_load(make(recorded, "x", []).split("---")[1])
        assert front["license"] == "mit"
        assert front["base_model"] == "microsoft/Phi-3.5-vision-instruct"
        assert front["base_model_relation"] == relation
        assert front["library_name"] == library
        assert "lora" in front["tags"]


def test_the_card_names_the_revision_of_the_base(lora_run):
    from phi3v.run.card import adapter_card

    recorded = read_run(lora_run)
    recorded.config["model"].update(path="hub/model", revision="0123abc", dtype="bfloat16")
    card = adapter_card(recorded, "x", [])
    assert "base: `hub/model` at revision `0123abc`" in card
    assert 'Checkpoint("hub/model", revision="0123abc", dtype="bfloat16").load()' in card


def test_the_card_tells_all_that_the_training_was_made_of(lora_run):
    from phi3v.run.card import model_card

    recorded = read_run(lora_run)
    for settings in (recorded.config["optimizer"], *recorded.config["optimizer"]["parts"].values()):
        settings["lr"] = 0.001
    plain = model_card(recorded, "x", [])
    assert "adapter: LoRA, rank 4, alpha 32, on decoder\n" in plain
    assert "optimizer: AdamW, learning rate 0.001\n" in plain
    assert "merged" not in plain
    recorded.config["model"]["merge"] = ["/home/me/runs/lora_r16/2026-01-01", "/home/me/first"]
    recorded.config["model"]["quantization"] = "nf4"
    recorded.config["adapter"] |= {"whole": ["projector"], "init_from": "/home/me/runs/a/b"}
    recorded.config["optimizer"]["lora_plus_ratio"] = 16.0
    recorded.config["optimizer"]["parts"] = {"projector": {"lr": 1e-5}, "vision": {"lr": 7e-5}}
    card = model_card(recorded, "x", [])
    assert "- merged into the base before: `lora_r16/2026-01-01`, `me/first`\n" in card
    assert "- the base's decoder rounded to nf4\n" in card
    assert "on decoder, all weights of projector beside it, begun with" in card
    assert "begun with the adapter of `a/b`\n" in card
    assert "learning rate 0.001, 1e-05 for the projector, LoRA+ with a ratio of 16\n" in card
    assert "/home/me" not in card
    assert "7e-05" not in card  # of a part that does not train


def test_the_code_on_the_card_loads_the_model_in_the_type_of_its_files(phi3v, lora_run, tmp_path):
    for dtype, given in (("bfloat16", ', dtype="bfloat16"'), ("float32", "")):
        export(phi3v, lora_run, tmp_path / dtype, "--dtype", dtype)
        card = (tmp_path / dtype / "README.md").read_text()
        assert f'Checkpoint("{dtype}"{given}).load()' in card
