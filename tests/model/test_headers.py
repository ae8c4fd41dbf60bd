"""Weights that do not fit are refused from the headers of their files, before any is loaded."""

import json
import shutil

import pytest
import torch
from damaged import refused
from safetensors.torch import load_file, save_file

from phi3v.adapter import LoraAdapter, save_adapter
from phi3v.model import Checkpoint, Phi3VForCausalLM
from phi3v.model.headers import INDEX, check_headers, read_headers


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    def load(*args, **options):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(Phi3VForCausalLM, "from_pretrained", load)


@pytest.fixture
def shards(folder, scratch_model):
    """The same checkpoint with its weights in several files."""
    (folder / "model.safetensors").unlink()
    scratch_model.model.save_pretrained(folder, max_shard_size="50KB")
    names = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(names) > 2
    return folder, names


def change(folder, **weights):
    """Other weights in model.safetensors; None takes one out."""
    file = folder / "model.safetensors"
    values = load_file(file) | {name.replace("__", "."): value for name, value in weights.items()}
    kept = {name: value for name, value in values.items() if value is not None}
    save_file(kept, file, metadata={"format": "pt"})


def test_a_missing_weight_is_named(folder):
    change(folder, model__norm__weight=None)
    assert "1 missing weights, the first is model.norm.weight" in refused(folder)


def test_a_weight_too_many_is_named(folder):
    change(folder, model__extra=torch.zeros(1))
    assert "1 unexpected weights, the first is model.extra" in refused(folder)


def test_a_weight_of_another_shape_is_named_with_its_file(folder):
    change(folder, model__norm__weight=torch.zeros(3))
    message = refused(folder)
    assert "model.safetensors: model.norm.weight is [3], config.json wants [32]" in message


def test_a_weight_that_somebody_quantised_is_named(folder):
    change(folder, model__norm__weight=torch.zeros(32, dtype=torch.int8))
    assert "model.norm.weight is I8" in refused(folder)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_named(folder, share):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: int(len(content) * share)])
    message = refused(folder)
    assert "model.safetensors: is damaged or cut off" in message
    assert message.endswith("fetch it again")


def test_a_pointer_of_git_lfs_is_told_from_damage(folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8293242880\n"
    (folder / "model.safetensors").write_text(pointer)
    assert "is a pointer of Git LFS and no weights; run git lfs pull" in refused(folder)


def test_files_of_weights_that_are_missing_are_counted(shards):
    folder, names = shards
    for name in names[1:3]:
        (folder / name).unlink()
    message = refused(folder)
    assert f"2 of {len(names)} files of weights are missing, the first is {names[1]}" in message


def test_one_file_among_several_that_was_cut_off_is_named(shards):
    folder, names = shards
    content = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(content[:-1])
    assert f"{names[1]}: is damaged or cut off" in refused(folder)


def test_a_file_that_lacks_what_the_index_says_is_named(shards):
    folder, _ = shards
    index = json.loads((folder / INDEX).read_text())
    name = "model.norm.weight"
    file = folder / index["weight_map"][name]
    rest = {key: value for key, value in load_file(file).items() if key != name}
    save_file(rest, file, metadata={"format": "pt"})
    assert f"{file.name}: lacks {name}" in refused(folder)


DAMAGED = ["{", "[]", '{"metadata": {}}', '{"weight_map": [1]}', '{"weight_map": {"a": 1}}']
DAMAGED += ['{"weight_map": {"a": "../x/model-1.safetensors"}}']


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_index_is_named(shards, content):
    folder, _ = shards
    (folder / INDEX).write_text(content)
    assert f"{INDEX}: is damaged" in refused(folder)


def test_two_sets_of_weights_in_a_folder_are_refused(shards, saved):
    folder, _ = shards
    shutil.copy(saved / "model.safetensors", folder)
    assert f"there are model.safetensors and {INDEX}" in refused(folder)


def test_what_is_read_slice_by_slice_comes_from_the_files_of_the_index_alone(shards, scratch_model):
    folder, names = shards
    for name in names:  # an earlier model's, and one that was only half fetched
        others = {key: torch.full_like(one, 7.0) for key, one in load_file(folder / name).items()}
        save_file(others, folder / f"z-{name}", metadata={"format": "pt"})
    (folder / "a.safetensors").write_bytes(b"half")
    loaded = Checkpoint(str(folder)).load(hollow=True)
    loaded.weights.vacate(loaded.model)
    loaded.weights.read_into(loaded.model, torch.device("cpu"))
    own = dict(scratch_model.model.named_parameters())
    assert all(torch.equal(one, own[name]) for name, one in loaded.model.named_parameters())


def test_an_adapter_that_lies_beside_a_model_is_not_put_on_it_without_a_word(folder):
    base = Checkpoint(str(folder), merge=[]).load(hollow=True).model
    save_adapter(LoraAdapter(r=2, alpha=4).attach(base), folder)
    message = refused(folder)
    assert f"{folder}: there is an adapter in it (adapter_config.json)" in message
    assert "take it away, or name its folder as an adapter: model.merge=[...]" in message


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_floating_point_of_any_size_is_taken(folder, scratch_model, dtype):
    values = load_file(folder / "model.safetensors")
    file = folder / "model.safetensors"
    save_file({name: one.to(dtype) for name, one in values.items()}, file)
    check_headers(folder, read_headers(folder), scratch_model.model)


def test_headers_say_what_is_there(shards, scratch_model):
    folder, names = shards
    entries = read_headers(folder)
    own = {name: tuple(value.shape) for name, value in scratch_model.model.named_parameters()}
    assert {name: entry.shape for name, entry in entries.items()} == own
    assert {entry.file for entry in entries.values()} == set(names)
    assert {entry.dtype for entry in entries.values()} == {"F32"}
