"""Checkpoints that are made to measure with: published names, shapes, ids; random weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from phi3v.errors import UserError
from phi3v.model import Checkpoint, Phi3VConfig, Phi3VImageProcessor
from phi3v.model.headers import INDEX
from phi3v.model.stand_in import PUBLISHED, make_checkpoint
from phi3v.model.tokenization import load_tokenizer, stand_in_tokenizer


def test_one_like_a_small_checkpoint_is_loaded_by_the_same_path(saved, tmp_path, picture):
    lines = []
    made = make_checkpoint(
        saved, tmp_path / "made", dtype=torch.float32, max_shard_size="50KB", said=lines.append
    )
    loaded = Checkpoint(str(tmp_path / "made")).load()
    weights = dict(loaded.model.named_parameters())
    assert made.parameters == sum(value.numel() for value in weights.values())
    assert (
        made.size == json.loads((tmp_path / "made" / INDEX).read_text())["metadata"]["total_size"]
    )
    assert len(lines) == len(made.files) > 2
    inputs = loaded.processor(text="<|user|>\n<|image_1|>\nHi<|end|>\n", images=picture())
    assert loaded.model(**inputs).logits.isfinite().all()
    assert weights["model.layers.0.mlp.down_proj.weight"].std().item() == pytest.approx(
        loaded.model.config.initializer_range, rel=0.1
    )
    assert torch.equal(weights["model.norm.weight"], torch.ones(32))
    tower = "model.vision_embed_tokens.img_processor.vision_model"
    assert torch.equal(weights[f"{tower}.pre_layrnorm.weight"], torch.ones(24))
    biases = [value for name, value in weights.items() if name.endswith(".bias")]
    assert biases
    assert not any(value.any() for value in biases)
    first, second = (weights[f"model.layers.{number}.mlp.down_proj.weight"] for number in (0, 1))
    assert not torch.equal(first, second)


def test_what_goes_with_the_weights_is_copied_and_code_is_not(saved, folder, tmp_path):
    (folder / "modeling_phi3_v.py").write_text("raise SystemExit\n")
    make_checkpoint(folder, tmp_path / "made")
    small = {path.name for path in saved.iterdir()} - {"model.safetensors"}
    assert {"generation_config.json", "chat_template.jinja", "tokenizer.json"} <= small
    for name in small:
        assert (tmp_path / "made" / name).read_bytes() == (saved / name).read_bytes()
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert made == small | {"model.safetensors"}


def test_the_seed_decides_the_weights_and_the_files_do_not(saved, tmp_path):
    def weights(name, **options):
        folder = tmp_path / name
        files = make_checkpoint(saved, folder, **options).files
        return {k: v for file in files for k, v in load_file(folder / file).items()}

    one, same = weights("one", max_shard_size="50KB"), weights("same")
    other = weights("other", seed=1)
    assert one.keys() == same.keys()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])
    assert {value.dtype for value in one.values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", PUBLISHED)
def test_one_like_a_published_model_has_its_names_and_shapes(name, tmp_path, golden, monkeypatch):
    """Of full size on the meta device: what would be written, without the writing."""
    written = {}

    def keep(weights, path, metadata):
        written.update({key: list(value.shape) for key, value in weights.items()})

    monkeypatch.setattr("phi3v.model.stand_in.save_file", keep)
    monkeypatch.setattr(
        "phi3v.model.stand_in._drawn",
        lambda name, shape, seed, spread: torch.empty(shape, device="meta"),
    )
    made = make_checkpoint(name, tmp_path / "big")
    hub_id = {
        "phi3_vision": "Phi-3-vision-128k-instruct",
        "phi35_vision": "Phi-3.5-vision-instruct",
    }
    published = json.loads((golden.folder / "full_size_parameters.json").read_text())
    parameters = published[f"microsoft/{hub_id[name]}"]["parameters"]
    assert made.size == 8_293_242_880
    assert made.parameters == 4_146_621_440
    assert written == dict(parameters)
    crops = Phi3VImageProcessor.from_pretrained(tmp_path / "big").num_crops
    assert crops == {"phi3_vision": 16, "phi35_vision": 4}[name]
    assert load_tokenizer(tmp_path / "big").model_max_length == 131072
    config = Phi3VConfig.from_pretrained(tmp_path / "big")
    assert config.rope_parameters["rope_type"] == "longrope"
    assert len(config.rope_parameters["long_factor"]) == 48


def test_its_tokenizer_has_the_published_ids():
    tokenizer = stand_in_tokenizer()
    known = {"<s>": 1, "</s>": 2, "<|endoftext|>": 32000, "<|assistant|>": 32001}
    known |= {"<|system|>": 32006, "<|end|>": 32007, "<|user|>": 32010, "<|image|>": 32044}
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in known} == known
    assert len(tokenizer) == 32045
    # The published ids of "<|user|>\n" (facts of the published tokenizer.json): a space, a newline.
    ids = tokenizer("<|user|>\n").input_ids
    assert ids[:2] == [1, 32010]
    assert tokenizer.decode(ids[3:]) == "\n"
    text = "Product: striped shirt, Full Price: 129.5 \u20ac"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_what_is_there_is_left_as_it_is(saved, folder, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="there is something in it already"):
        make_checkpoint(saved, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(UserError, match="neither phi3_vision nor phi35_vision nor a folder"):
        make_checkpoint("phi4", tmp_path / "new")


def test_a_disk_that_cannot_hold_it_is_told_before_anything_is_written(monkeypatch, tmp_path):
    full = shutil.disk_usage(tmp_path)._replace(free=8_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(UserError, match=r"8\.3 GB are to be written and 8\.0 GB free"):
        make_checkpoint("phi3_vision", tmp_path / "big")
    assert not list((tmp_path / "big").glob("*.safetensors"))
