"""An adapter that is served: added to the base as engines do it, it gives the run's logits."""

import json
import re

import pytest
import torch
from made_run import TINY, loaded_run, logits, make_run
from peft import PeftModel
from safetensors.torch import load_file

from phi3v.model import Checkpoint
from phi3v.run.recorded import read_run

SERVED = {
    "lora": ["adapter.r=4"],
    "rslora": ["adapter.r=4", "adapter.use_rslora=true"],
    "two modules": ["adapter.r=4", "adapter.targets.decoder=[qkv_proj,layers.1.mlp.down_proj]"],
    "pissa": ["adapter.r=4", "adapter.init=pissa"],
    "olora": ["adapter.r=4", "adapter.alpha=8", "adapter.init=olora"],
    "olora, rslora": [
        *("adapter.r=4", "adapter.alpha=4", "adapter.init=olora", "adapter.use_rslora=true"),
    ],
}
REFUSED = {
    "vision": (["adapter.scope=[decoder,vision]"], "the vision (18 modules)", "decoder only"),
    "projector": (["adapter.scope=[projector]"], "the projector (2 modules)", "decoder only"),
    "dora": (["adapter.use_dora=true"], "it is DoRA", "plain LoRA"),
    "biases": (["adapter.bias=lora_only"], "it trained biases", "leave out"),
    "head": (["adapter.targets.decoder=[lm_head]"], "lm_head", "no layer"),
    "full": (["adapter=full"], "trained whole weights", "no adapter"),
}


@pytest.fixture(scope="module", params=SERVED)
def served_run(request, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", *SERVED[request.param])


def test_engines_and_peft_give_the_runs_logits(phi3v, served_run, pictures, tmp_path):
    out = tmp_path / "out"
    ended = phi3v("export", served_run, "--adapter", out)
    assert ended.status == 0, ended.err
    task = read_run(served_run).task
    wanted = logits(*loaded_run(served_run), pictures[0], task)
    engine = Checkpoint(str(TINY)).load()
    untouched = logits(engine.model, engine.processor, pictures[0], task)
    assert (untouched - wanted).abs().max() > 0.01
    add_as_engines_do(engine.model, out)
    found = logits(engine.model, engine.processor, pictures[0], task)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    fresh = Checkpoint(str(TINY)).load()
    peft = PeftModel.from_pretrained(fresh.model, str(out))
    found = logits(peft, fresh.processor, pictures[0], task)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@torch.no_grad()
def add_as_engines_do(model, folder):
    """W + scale B A, from the two files alone."""
    config = json.loads((folder / "adapter_config.json").read_text())
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config["use_rslora"] else rank)
    tensors = load_file(folder / "adapter_model.safetensors")
    for name, down in tensors.items():
        if ".lora_A." in name:
            up = tensors[name.replace(".lora_A.", ".lora_B.")]
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            model.get_submodule(module).weight += scale * up @ down


def test_the_configuration_holds_nothing_that_engines_refuse(phi3v, served_run, tmp_path):
    phi3v("export", served_run, "--adapter", tmp_path / "out")
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert config["init_lora_weights"] is True
    assert (config["use_dora"], config["bias"], config["modules_to_save"]) == (False, "none", None)
    assert config["base_model_name_or_path"] == str(TINY)
    before = json.loads((served_run / "adapter/adapter_config.json").read_text())
    twice = 1 if before["init_lora_weights"] is True else 2
    assert config["r"] == twice * before["r"]
    card = (tmp_path / "out/README.md").read_text()
    assert "library_name: peft" in card
    assert f"rank {config['r']}" in card
    assert "No engine is known to serve adapters over Phi-3-Vision" in card


@pytest.mark.parametrize(
    "settings", [{"dtype": "float32"}, {"dtype": "bfloat16"}, {"quantization": "nf4"}]
)
def test_the_code_on_the_card_loads_the_adapter_onto_its_base(
    phi3v, pictures, tmp_path, monkeypatch, settings
):
    words = [f"model.{key}={value}" for key, value in settings.items()]
    run = make_run(tmp_path / "run", "adapter.r=4", *words)
    assert phi3v("export", run, "--adapter", tmp_path / "out").status == 0
    card = (tmp_path / "out/README.md").read_text()
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], made)
    loaded, model = made["loaded"], made["model"]
    assert loaded.model.dtype == getattr(torch, settings.get("dtype", "float32"))
    task = read_run(run).task
    wanted = logits(*loaded_run(run, **settings), pictures[0], task)
    torch.testing.assert_close(logits(model, loaded.processor, pictures[0], task), wanted)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_engines_do_not_take_is_refused_with_the_way_out(phi3v, kind, tmp_path):
    words, *told = REFUSED[kind]
    run = make_run(tmp_path / "run", *words)
    ended = phi3v("export", run, "--adapter", tmp_path / "out")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert all(text in ended.err for text in told), ended.err
    assert f"phi3v export {run} --merge {tmp_path / 'out'}" in ended.err
    assert not (tmp_path / "out").exists()


def test_what_was_written_is_compared_with_the_run(phi3v, served_run, tmp_path):
    ended = phi3v("export", served_run, "--adapter", tmp_path / "out")
    compared = [line for line in ended.out.splitlines() if line.startswith("written against")]
    assert compared
    told = compared[-1]
    assert "the same logits at all" in told or float(told.split("most ")[1].split()[0]) < 1e-4
    card = (tmp_path / "out/README.md").read_text()
    assert all(line in card for line in compared)


def test_an_adapter_that_is_not_what_was_trained_is_not_written(phi3v, tmp_path, monkeypatch):
    from phi3v.run import export as subject

    true_write = subject.write_servable

    def wrong(folder, tensors, config):
        true_write(folder, {name: 1.01 * tensor for name, tensor in tensors.items()}, config)

    monkeypatch.setattr(subject, "write_servable", wrong)
    run = make_run(tmp_path / "run", "adapter.r=2")
    ended = phi3v("export", run, "--adapter", tmp_path / "out")
    assert ended.status == 2
    assert "written anew it gives other logits" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_rank_that_the_weights_do_not_have_is_refused(phi3v, tmp_path):
    run = make_run(tmp_path / "run", "adapter.r=4")
    file = run / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "r": 2}))
    ended = phi3v("export", run, "--adapter", tmp_path / "out")
    assert ended.status == 2
    assert "has shape" in ended.err
    assert not (tmp_path / "out").exists()


def test_of_a_base_in_four_bits_it_is_told_what_it_belongs_to(phi3v, tmp_path):
    run = make_run(tmp_path / "run", "adapter.r=4", "model.quantization=nf4")
    ended = phi3v("export", run, "--adapter", tmp_path / "out")
    assert ended.status == 0, ended.err
    note = "trained on a base rounded to nf4: serve it over one"
    assert note in ended.out
    assert note in (tmp_path / "out/README.md").read_text()
    assert "written against the run's adapter, float32: the same logits" in ended.out


def test_modules_that_are_saved_whole_are_refused(phi3v, tmp_path):
    run = make_run(tmp_path / "run", "adapter.r=1")
    file = run / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "modules_to_save": ["lm_head"]}))
    ended = phi3v("export", run, "--adapter", tmp_path / "out")
    assert "it holds whole modules" in ended.err


def test_pissa_on_a_rounded_base_cannot_be_plain_lora(phi3v, tmp_path):
    run = make_run(tmp_path / "run", "adapter.r=4", "adapter.init=pissa", "model.dtype=bfloat16")
    ended = phi3v("export", run, "--adapter", tmp_path / "out")
    assert ended.status == 2
    assert "the base was rounded" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("torn", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_torn_adapter_is_one_line(phi3v, tmp_path, torn):
    run = make_run(tmp_path / "run", "adapter.r=1")
    file = run / "adapter" / torn
    file.write_bytes(file.read_bytes()[:100])
    for kind in ("--merge", "--adapter"):
        ended = phi3v("export", run, kind, tmp_path / "out")
        assert ended.status == 2
        assert "cannot be read" in ended.err
        assert ended.err.count("\n") == 1


def test_an_adapter_on_top_of_others_is_not_put_on_the_bare_base(phi3v, tmp_path):
    first = make_run(tmp_path / "first", "adapter.r=2")
    run = make_run(tmp_path / "run", "adapter.r=2", f"model.merge=[{first}]")
    ended = phi3v("export", run, "--adapter", tmp_path / "out")
    assert ended.status == 2
    assert "stands on a base with other adapters merged in" in ended.err
    assert f"--merge {tmp_path / 'out'}" in ended.err
    assert not (tmp_path / "out").exists()
