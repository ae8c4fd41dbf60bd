"""A tokenizer made here has the published structure."""

import json

import pytest
from transformers import AutoTokenizer

from phi3v.model.tokenization import (
    CHAT_TOKENS,
    SMALLEST_VOCABULARY,
    load_tokenizer,
    train_tokenizer,
)

CORPUS = ["A striped shirt for 129.50, made of cotton.", "Two shirts: 12 and 1.299,00"] * 4


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CORPUS, 390)


@pytest.fixture
def processor(make_scratch, texts):
    return make_scratch().load(lambda: texts).processor


def pieces(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_ids_begin_with_the_first_tokens_the_bytes_and_the_characters(tokenizer):
    head = tokenizer.convert_ids_to_tokens(range(5))
    assert head == ["<unk>", "<s>", "</s>", "<0x00>", "<0x01>"]
    assert tokenizer.convert_ids_to_tokens(258) == "<0xFF>"
    characters = tokenizer.convert_ids_to_tokens(range(259, 259 + 95))
    assert set(characters) == {"\u2581", *(chr(code) for code in range(33, 127))}


def test_the_special_tokens_of_a_chat_come_last_and_the_vocabulary_is_as_large_as_asked(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(list(CHAT_TOKENS))
    assert ids == list(range(len(tokenizer) - len(CHAT_TOKENS), len(tokenizer)))
    assert len(tokenizer) == 390
    assert (tokenizer.bos_token_id, tokenizer.unk_token_id) == (1, 0)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == ids[0]


def test_few_texts_give_a_smaller_vocabulary():
    assert len(train_tokenizer(["ab"], 5000)) < SMALLEST_VOCABULARY + 10


def test_a_vocabulary_without_room_for_the_fixed_pieces_is_refused():
    with pytest.raises(ValueError, match=f"are {SMALLEST_VOCABULARY}"):
        train_tokenizer(CORPUS, SMALLEST_VOCABULARY - 1)


def test_digits_and_punctuation_are_pieces_of_their_own(tokenizer):
    assert pieces(tokenizer, "1299.50") == ["<s>", "\u2581", "1", "2", "9", "9", ".", "5", "0"]
    merged = [token for token in tokenizer.get_vocab() if len(token.strip("\u2581")) > 1]
    words = [token for token in merged if not token.startswith("<")]
    assert words
    assert all(word.strip("\u2581").isalpha() for word in words)


def test_the_texts_words_become_pieces(tokenizer):
    assert "\u2581shirt" in pieces(tokenizer, "a shirt for you")


def test_a_prompt_is_cut_up_by_the_published_rules(tokenizer):
    prompt = "<|user|>\nWhat?<|end|>\n<|assistant|>\nA shirt"
    found = pieces(tokenizer, prompt)
    assert found[:4] == ["<s>", "<|user|>", "\u2581", "<0x0A>"]
    end = found.index("<|end|>")
    # <|assistant|> swallows its newline; the text after it begins with a space of its own.
    assert found[end : end + 4] == ["<|end|>", "\u2581", "<0x0A>", "<|assistant|>"]
    assert found[end + 4].startswith("\u2581")


@pytest.mark.parametrize("text", ["plain words", "ünïcödé 漢字 🙂", "tab\tand\nnewline", "a  b"])
def test_any_text_survives_the_way_there_and_back(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_same_texts_give_the_same_tokenizer(tokenizer):
    again = train_tokenizer(iter(CORPUS), 390)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_it_is_loaded_as_it_was_saved_whatever_class_the_files_name(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    published = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
    published["auto_map"] = {"AutoProcessor": "processing_phi3_v.Phi3VProcessor"}
    path.write_text(json.dumps(json.loads(path.read_text()) | published))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "phi3_v"}))
    prompt = "<|user|>\nA shirt <|end|>\n<|assistant|>\nfor 12"
    for loaded in (load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert loaded(prompt)["input_ids"] == tokenizer(prompt)["input_ids"]
    assert "auto_map" not in load_tokenizer(tmp_path).init_kwargs


def test_its_files_name_a_class_that_older_programs_know_and_give_the_same_ids(folder, processor):
    tokenizer = processor.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>", "<|user|>"]})
    processor.save_pretrained(folder)
    written = json.loads((folder / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert written["additional_special_tokens"] == ["<|end|>", "<|user|>"]
    assert "extra_special_tokens" not in written
    text = "<|user|>\nA striped shirt?<|end|>\n<|assistant|>\n"
    for loaded in (AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)):
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.all_special_tokens == tokenizer.all_special_tokens
        assert loaded.decode(
            loaded(text)["input_ids"], skip_special_tokens=True
        ) == tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
