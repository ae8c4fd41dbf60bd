"""Files of different models are refused, though each of them could be loaded."""

import json

import pytest
from damaged import edit, refused

from phi3v.model import Checkpoint


def test_crops_that_do_not_fit_the_model_are_refused(folder):
    nested = json.loads((folder / "processor_config.json").read_text())
    nested["image_processor"]["crop_size"] = 336
    edit(folder / "processor_config.json", **nested)
    assert "makes crops of 336 pixels" in refused(folder)


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
