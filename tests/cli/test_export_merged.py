"""A merged run is the run's model: same logits, published names."""

import json
from collections import defaultdict

import pytest
import torch
from made_run import TINY, loaded_run, logits, make_run
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor

from phi3v.adapter import load_adapter
from phi3v.model import Checkpoint
from phi3v.run.recorded import read_run

from .conftest import export

KINDS = {
    "lora": ["adapter.r=4"],
    "dropout": ["adapter.r=4", "adapter.dropout=0.5"],
    "all parts": ["adapter.r=2", "adapter.scope=[decoder,projector,vision]"],
    "rslora": ["adapter.r=4", "adapter.use_rslora=true"],
    "dora": ["adapter.r=2", "adapter.use_dora=true", "adapter.scope=[decoder,projector,vision]"],
    "pissa": ["adapter.r=4", "adapter.init=pissa"],
    "pissa by steps": ["adapter.r=4", "adapter.init=pissa_niter_2"],
    "olora": ["adapter.r=4", "adapter.alpha=8", "adapter.init=olora"],
    "biases": ["adapter.r=2", "adapter.bias=lora_only", "adapter.scope=[projector,vision]"],
    "projector whole": ["adapter.r=2", "adapter.whole=[projector]"],
    "language head": ["adapter.r=2", "adapter.targets.decoder=[lm_head]"],
    "full": ["adapter=full", "adapter.scope=[decoder,projector,vision]"],
}


def shapes_in(folder):
    """Name -> (shape, type, file) of every tensor in the folder's safetensors."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (no mapping)
                part = opened.get_slice(name)
                found[name] = (part.get_shape(), part.get_dtype(), file.name)
    return found


@pytest.fixture(scope="module", params=KINDS)
def kind_of_run(request, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", *KINDS[request.param])


def test_merged_logits_are_those_of_the_adapter(phi3v, kind_of_run, pictures, tmp_path):
    task = read_run(kind_of_run).task
    wanted = [logits(*loaded_run(kind_of_run), picture, task) for picture in pictures[:2]]
    base = Checkpoint(str(TINY)).load()
    assert (logits(base.model, base.processor, pictures[0], task) - wanted[0]).abs().max() > 0.01
    ended = export(phi3v, kind_of_run, tmp_path / "out")
    merged = Checkpoint(str(tmp_path / "out")).load()  # strictly
    for picture, row in zip(pictures[:2], wanted, strict=True):
        found = logits(merged.model, merged.processor, picture, task)
        torch.testing.assert_close(found, row, rtol=0, atol=1e-4)
    assert not isinstance(merged.model, PeftModel)
    told = "whole weights" if (kind_of_run / "model").is_dir() else "merged against adapter"
    assert told in ended.out
    base_shapes = {name: shape[:2] for name, shape in shapes_in(TINY).items()}
    assert {name: s[:2] for name, s in shapes_in(tmp_path / "out").items()} == base_shapes


def test_the_folder_is_a_published_one(phi3v, lora_run, tmp_path):
    out = tmp_path / "out"
    export(phi3v, lora_run, out)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert json_or_text(out / name) == json_or_text(TINY / name), name
    assert "auto_map" not in (out / "config.json").read_text()
    tokenizer = Checkpoint(str(out)).load().processor.tokenizer
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "<|endoftext|>")]
    assert json_or_text(out / "generation_config.json")["eos_token_id"] == ends
    crops = json_or_text(out / "preprocessor_config.json")
    assert (
        crops.items()
        <= {
            **json_or_text(TINY / "processor_config.json")["image_processor"],
            "image_processor_type": "Phi3VImageProcessor",
        }.items()
    )
    assert "is_local" not in json_or_text(out / "tokenizer_config.json")
    assert AutoConfig.from_pretrained(out).model_type == "phi3_v"
    assert type(AutoModelForCausalLM.from_pretrained(out)).__name__ == "Phi3VForCausalLM"
    assert AutoProcessor.from_pretrained(out).image_processor.num_crops == 4
    modes = {file.name: file.stat().st_mode & 0o777 for file in out.iterdir()}
    assert len(set(modes.values())) == 1, modes


def json_or_text(file):
    text = file.read_text()
    return json.loads(text) if file.suffix == ".json" else text


def test_small_shards_have_an_index_that_is_right(phi3v, lora_run, tmp_path):
    out = tmp_path / "out"
    export(phi3v, lora_run, out, "--max-shard-size", "1MB")
    index = json.loads((out / "model.safetensors.index.json").read_text())
    found = shapes_in(out)
    assert {name: file for name, (_, _, file) in found.items()} == index["weight_map"]
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 3
    assert files == [
        f"model-{number:05}-of-{len(files):05}.safetensors" for number in range(1, len(files) + 1)
    ]
    assert all((out / file).stat().st_size < 1.1e6 for file in files)
    numbers = [torch.Size(shape).numel() for shape, _, _ in found.values()]
    assert index["metadata"]["total_size"] == 4 * sum(numbers)
    Checkpoint(str(out)).load()


def test_the_runs_number_of_crops_goes_along(phi3v, tmp_path):
    run = make_run(tmp_path / "run", "adapter.r=1", "model.num_crops=2")
    export(phi3v, run, tmp_path / "out")
    assert Checkpoint(str(tmp_path / "out")).load().processor.image_processor.num_crops == 2


def test_on_a_bf16_base_the_sum_is_rounded_once_and_the_cost_is_told(phi3v, tmp_path):
    run = make_run(tmp_path / "run", "adapter.r=4", "model.dtype=bfloat16")
    ended = export(phi3v, run, tmp_path / "out")
    merging, rounding, _ = ended.out.splitlines()
    assert merging.startswith("merged against adapter, float32: logits differ by at most")
    assert float(merging.split("at most ")[1].split()[0]) < 1e-4
    assert rounding.startswith("rounding to bfloat16: logits differ by at most")
    assert 1e-3 < float(rounding.split("at most ")[1].split()[0]) < 1
    assert {dtype for _, dtype, _ in shapes_in(tmp_path / "out").values()} == {"BF16"}
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    model, _ = loaded_run(run, dtype="bfloat16")
    exact = model.float().merge_and_unload().state_dict()
    written = Checkpoint(str(tmp_path / "out"), dtype="bfloat16").load().model.state_dict()
    assert all(torch.equal(written[name], exact[name].bfloat16()) for name in written)


def test_pissa_on_a_bf16_base_keeps_the_base_that_was_trained_on(phi3v, tmp_path):
    run = make_run(tmp_path / "run", "adapter.r=4", "adapter.init=pissa", "model.dtype=bfloat16")
    export(phi3v, run, tmp_path / "out", "--dtype", "float32")
    model, _ = loaded_run(run, dtype="bfloat16")  # its base is rounded after PiSSA took its part
    exact = model.float().merge_and_unload().state_dict()
    written = Checkpoint(str(tmp_path / "out")).load().model.state_dict()
    for name, tensor in written.items():
        torch.testing.assert_close(tensor, exact[name], rtol=0, atol=1e-6)


def test_what_float32_cannot_tell_is_measured_in_float64(phi3v, tmp_path):
    # At so many times the start, base and adapter nearly cancel each other.
    words = ["adapter.r=4", "adapter.alpha=64", "adapter.init=olora", "adapter.use_rslora=true"]
    run = make_run(tmp_path / "run", *words)
    for kind in ("--merge", "--adapter"):
        ended = phi3v("export", run, kind, tmp_path / kind.lstrip("-"))
        assert ended.status == 0, ended.err
        first, second = [line for line in ended.out.splitlines() if ", float" in line][:2]
        assert float(first.split("float32: logits differ by at most ")[1].split()[0]) > 1e-4
        told = second.split(", float64: ")[1]
        exact = told.startswith("the same logits at all")
        assert exact or float(told.split("at most ")[1].split()[0]) < 5e-5


@pytest.mark.parametrize("kind", ["--merge", "--adapter"])
def test_without_the_memory_for_more_digits_it_is_one_line(phi3v, tmp_path, monkeypatch, kind):
    words = ["adapter.r=4", "adapter.alpha=64", "adapter.init=olora", "adapter.use_rslora=true"]
    run = make_run(tmp_path / "run", *words)
    monkeypatch.setattr("phi3v.run.export.free_memory", lambda: 10_000_000)
    # 1.6 million numbers: they fit in float32, which they are in, and not in float64.
    ended = phi3v("export", run, kind, tmp_path / "out")
    assert ended.status == 2
    assert "float32: logits differ by" in ended.out
    assert ended.err.startswith("error: the models are compared in float64, which takes about 0.0")
    assert "0.0 GB are free; --device cuda" in ended.err
    assert ended.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_without_the_memory_for_float32_nothing_is_computed(phi3v, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", "adapter.r=1", "model.dtype=bfloat16")
    monkeypatch.setattr("phi3v.run.export.free_memory", lambda: 5_000_000)
    ended = phi3v("export", run, "--merge", tmp_path / "out")
    assert (ended.status, ended.out) == (2, "")
    assert "compared in float32, which takes about" in ended.err
    for free in (10_000_000, None):  # None: the system does not say
        monkeypatch.setattr("phi3v.run.export.free_memory", lambda free=free: free)
        assert phi3v("export", run, "--merge", tmp_path / f"out {free}").status == 0


def test_another_type_can_be_chosen(phi3v, lora_run, tmp_path):
    ended = export(phi3v, lora_run, tmp_path / "out", "--dtype", "float16")
    assert {dtype for _, dtype, _ in shapes_in(tmp_path / "out").values()} == {"F16"}
    assert "rounding to float16" in ended.out


def test_an_exported_model_predicts_what_the_run_does(phi3v, lora_run, pictures, tmp_path):
    export(phi3v, lora_run, tmp_path / "out")
    options = ("--json", "--max-new-tokens", 16)
    own = phi3v("predict", lora_run, *pictures, *options)
    words = ("--model", tmp_path / "out", "--task", "product")
    shared = defaultdict(list)
    for ended in (own, phi3v("predict", *words, *pictures, *options)):
        for row in ended.rows:
            shared[row["picture"]].append((row["prediction"], row["parsed"]))
    assert len(shared) == 3
    assert all(first == second for first, second in shared.values())


def test_a_run_on_four_bits_is_merged_with_the_base_that_it_was_trained_on(
    phi3v, tmp_path, pictures
):
    run = make_run(tmp_path / "run", "adapter.r=4", "model.quantization=nf4")
    task = read_run(run).task
    base = Checkpoint(str(TINY), quantization="nf4").load()
    processor = base.processor
    wanted = logits(load_adapter(base.model, run / "adapter"), processor, pictures[0], task)
    ended = export(phi3v, run, tmp_path / "out")
    merged = Checkpoint(str(tmp_path / "out")).load()
    found = logits(merged.model, merged.processor, pictures[0], task)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)
    whole = load_adapter(Checkpoint(str(TINY)).load().model, run / "adapter")
    assert (logits(whole, processor, pictures[0], task) - wanted).abs().max() > 0.01
    assert "the base is as it was trained on: rounded to nf4" in ended.out
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_settings_that_a_run_left_out_are_the_defaults(phi3v, pictures, tmp_path):
    run = make_run(tmp_path / "run", "adapter.r=4", "~model.dtype", "~model.attn_implementation")
    ended = export(phi3v, run, tmp_path / "out")
    assert {dtype for _, dtype, _ in shapes_in(tmp_path / "out").values()} == {"F32"}, ended.err
    asked = phi3v("predict", str(run), str(pictures[0]))
    assert asked.status == 0, asked.err
