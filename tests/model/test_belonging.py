"""Files of different models are refused, though each of them could be loaded."""

import copy
import json

import pytest
from damaged import edit, refused

from phi3v.errors import UserError
from phi3v.model import Checkpoint
from phi3v.model.belonging import check_tokenizer_fits


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("crop_size", 336, "crops of 336 pixels and 9 tokens"), ("num_img_tokens", 144, "144 tokens")],
)
def test_crops_that_do_not_fit_the_model_are_refused(folder, key, value, told):
    nested = json.loads((folder / "processor_config.json").read_text())
    nested["image_processor"][key] = value
    edit(folder / "processor_config.json", **nested)
    message = refused(folder)
    assert told in message
    assert message.endswith("config.json wants 24 and 9")


def test_a_tokenizer_may_fill_the_embedding(saved, scratch_model):
    config, processor = copy.deepcopy(scratch_model.model.config), scratch_model.processor
    config.vocab_size = len(processor.tokenizer)
    check_tokenizer_fits("here", saved, config, processor)
    config.vocab_size -= 1
    with pytest.raises(UserError, match=f"has {config.vocab_size + 1} ids, config.json has"):
        check_tokenizer_fits("here", saved, config, processor)


def test_a_number_that_is_no_token_is_told_with_those_that_would_be_one(folder):
    loaded = Checkpoint(str(folder)).load()
    bos = loaded.processor.tokenizer.bos_token_id
    edit(folder / "config.json", bos_token_id=7000)
    message = refused(folder)
    assert (
        f"bos_token_id 7000, which is no token in tokenizer.json, where it would be {bos}:"
        in message
    )


@pytest.mark.parametrize("token", ["</s>", "<|endoftext|>", "<|end|>", "<|assistant|>"])
def test_each_end_that_was_ever_published_is_taken_alone_and_among_others(folder, token):
    vocabulary = Checkpoint(str(folder)).load().processor.tokenizer.get_vocab()
    assert vocabulary[token] is not None
    edit(folder / "config.json", eos_token_id=vocabulary[token])
    edit(folder / "generation_config.json", eos_token_id=[vocabulary["<|end|>"], vocabulary[token]])
    Checkpoint(str(folder)).load()


def test_files_that_state_nothing_of_ids_contradict_nothing(tmp_path, scratch_model):
    (tmp_path / "config.json").write_text("{}")  # there is no generation_config.json
    model = scratch_model.model
    check_tokenizer_fits("here", tmp_path, model.config, scratch_model.processor)


def test_a_tokenizer_larger_than_the_embedding_is_refused(folder):
    edit(folder / "config.json", vocab_size=100)
    assert "config.json has a vocab_size of 100" in refused(folder)


def test_a_tokenizer_without_the_tokens_of_a_chat_is_refused(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [
        token for token in tokenizer["added_tokens"] if token["content"] != "<|end|>"
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "tokenizer.json lacks <|end|>" in refused(folder)


@pytest.mark.parametrize("key", ["pad_token_id", "bos_token_id", "eos_token_id"])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_tokenizer_with_other_ids_than_the_model_is_refused(folder, file, key):
    user = Checkpoint(str(folder)).load().processor.tokenizer.get_vocab()["<|user|>"]
    edit(folder / file, **{key: user})
    message = refused(folder)
    assert f"{file} has {key} {user}, which is <|user|> in tokenizer.json" in message
    assert "different models" in message


def test_an_end_of_turn_that_is_no_end_is_refused_among_others(folder):
    ids = Checkpoint(str(folder)).load().processor.end_of_turn_ids
    edit(folder / "generation_config.json", eos_token_id=[*ids, 7])
    assert "generation_config.json has eos_token_id 7" in refused(folder)


@pytest.mark.parametrize("stale", [2, [2], None])
def test_the_stale_end_of_the_published_files_is_taken(folder, stale):
    edit(folder / "config.json", eos_token_id=stale)
    edit(folder / "generation_config.json", eos_token_id=stale)
    loaded = Checkpoint(str(folder)).load()
    assert loaded.model.generation_config.eos_token_id == loaded.processor.end_of_turn_ids


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_torn_generation_config_is_told(folder, content):
    (folder / "generation_config.json").write_text(content)
    assert "generation_config.json: cannot be read: " in refused(folder)


@pytest.mark.parametrize("number", [[1], {"a": 1}, "x"])
def test_an_id_that_is_no_number_is_told(folder, number):
    edit(folder / "generation_config.json", eos_token_id=[number])
    assert f"generation_config.json has eos_token_id {number}, which is no token" in refused(folder)
