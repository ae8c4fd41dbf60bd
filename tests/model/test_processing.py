"""The processor: published tokenisation around pictures, batches, options, chat templates."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from phi3v.model import Phi3VImageProcessor, Phi3VProcessor
from phi3v.model.tokenization import train_tokenizer

GOLDEN = json.loads((Path(__file__).parent / "golden" / "text_processor.json").read_text())
# A checkout beside the published files tests the published ids too; they are no part of this one.
PUBLISHED = Path(__file__).parents[3] / "shared" / "checkpoints"
FOLDERS = {"phi3": "Phi3_vision", "phi35": "Phi3_5_vision"}
WORDS = ["lower newer upper older longer string what is shown in this image Describe"] * 3


def unfold(runs):
    return [i for run in runs for i in ([run[0]] * run[1] if isinstance(run, list) else [run])]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(WORDS, 450)


@pytest.fixture
def processor(tokenizer):
    return Phi3VProcessor(
        Phi3VImageProcessor(num_crops=4, crop_size=24, num_img_tokens=9), tokenizer
    )


def structure(ids, names):
    """Ids as the golden data has them, with every run of text as one mark."""
    out = []
    for token in ids:
        mark = names.get(token, token if token <= 2 else "text")
        if mark != "text" or not out or out[-1] != "text":
            out.append(mark)
    return out


@pytest.mark.parametrize("kind", FOLDERS)
def test_pictures_and_special_tokens_stand_where_the_published_processor_puts_them(tokenizer, kind):
    published = GOLDEN[kind]
    processor = Phi3VProcessor(Phi3VImageProcessor(num_crops=published["num_crops"]), tokenizer)
    tokens = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
    names = {published["ids"][token]: token for token in tokens}
    ours = {tokenizer.convert_tokens_to_ids(token): token for token in tokens}
    for case in published["cases"]:
        counts = [processor.image_processor.num_image_tokens(*size) for size in case["images_wh"]]
        ids = processor.encode_prompt(case["prompt"], counts)
        assert structure(ids, ours) == structure(unfold(case["input_ids_rle"]), names)


@pytest.mark.parametrize("kind", FOLDERS)
def test_ids_are_the_published_ones(kind, golden):
    if not PUBLISHED.is_dir():
        pytest.skip("the published tokenizers are not here; the test above holds their structure")
    processor = Phi3VProcessor.from_pretrained(PUBLISHED / FOLDERS[kind])
    published = GOLDEN[kind]
    assert processor.image_processor.num_crops == published["num_crops"]
    assert processor.end_of_turn_ids == [published["ids"]["<|end|>"], published["eos"]]
    assert len(processor.tokenizer) == published["len"]
    for case in published["cases"]:
        counts = [processor.image_processor.num_image_tokens(*size) for size in case["images_wh"]]
        assert processor.encode_prompt(case["prompt"], counts) == unfold(case["input_ids_rle"])
    case = published["cases"][1]
    image = Image.fromarray(golden.make_image(*case["images_wh"][0], 411))
    out = processor(text=case["prompt"], images=image)
    assert out["input_ids"].tolist() == [unfold(case["input_ids_rle"])]
    assert bool(out["attention_mask"].all())
    assert out["image_sizes"].tolist() == case["image_sizes"]


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_chat_template_renders_as_published(processor, kind):
    for case in GOLDEN[kind]["chat_template"]:
        conversation = case["messages"]
        with_prompt = processor.apply_chat_template(conversation, add_generation_prompt=True)
        assert with_prompt == case["rendered_gen"]
        assert processor.apply_chat_template(conversation) == case["rendered_nogen"]


def test_the_chat_template_numbers_pictures_of_content_lists(processor, picture):
    def turn(*content):
        return {"role": "user", "content": list(content)}

    photo = {"type": "image", "image": picture()}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}
    conversation = [
        turn(photo, {"type": "text", "text": "What?"}),
        answer,
        turn(photo, {"type": "text", "text": "And?"}),
    ]
    rendered = processor.apply_chat_template(conversation, add_generation_prompt=True)
    assert rendered == (
        "<|user|>\n<|image_1|>\nWhat?<|end|>\n<|assistant|>\nA cat.<|end|>\n"
        "<|user|>\n<|image_2|>\nAnd?<|end|>\n<|assistant|>\n"
    )
    out = processor.apply_chat_template(
        conversation, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    direct = processor(text=rendered, images=[picture(), picture()])
    assert torch.equal(out["input_ids"], direct["input_ids"])
    assert torch.equal(out["pixel_values"], direct["pixel_values"])


def test_an_assistant_mask_marks_what_the_assistant_said(processor, picture):
    template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}"
        "{% else %}<|image_1|>\n{{ m['content'] }}<|end|>\n{% endif %}{% endfor %}"
    )
    messages = [
        {"role": "user", "content": "What is shown?"},
        {"role": "assistant", "content": "lower newer"},
    ]
    out = processor.apply_chat_template(
        messages,
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        processor_kwargs={"images": [picture()]},
    )
    said = [
        token
        for token, mark in zip(out["input_ids"][0], out["assistant_masks"][0], strict=True)
        if mark
    ]
    assert processor.decode(said).strip() == "lower newer<|end|>"


def test_a_batch_is_padded_on_the_side_that_is_asked_for(processor, picture):
    texts = ["<|image_1|>\nlower", "newer"]
    count = processor.image_processor.num_image_tokens(40, 24)
    rows = [processor.encode_prompt(texts[0], [count]), processor.encode_prompt(texts[1], [])]
    pad = processor.tokenizer.pad_token_id
    right = processor(text=texts, images=[picture()], padding=True)
    width = len(rows[0]) - len(rows[1])
    assert right["input_ids"].tolist() == [rows[0], rows[1] + [pad] * width]
    left = processor(text=texts, images=[picture()], padding="longest", padding_side="left")
    assert left["input_ids"].tolist() == [rows[0], [pad] * width + rows[1]]
    assert left["attention_mask"].tolist() == [[1] * len(rows[0]), [0] * width + [1] * len(rows[1])]
    longer = processor(text=texts[1], padding="max_length", max_length=20)
    assert longer["input_ids"].shape == (1, 20)
    even = processor(text=texts[1], padding=True, pad_to_multiple_of=16)
    assert even["input_ids"].shape == (1, 16)


def test_pictures_go_to_the_rows_that_name_them(processor, picture):
    images = [picture(seed=seed) for seed in range(3)]
    texts = ["<|image_1|><|image_2|>", "no picture", "<|image_1|>"]
    flat = processor(text=texts, images=images, padding=True)
    nested = processor(text=texts, images=[images[:2], [], images[2:]], padding=True)
    assert torch.equal(flat["input_ids"], nested["input_ids"])
    assert torch.equal(flat["pixel_values"], nested["pixel_values"])
    assert [sorted(set(row[row < 0].tolist())) for row in flat["input_ids"]] == [[-2, -1], [], [-1]]


def test_a_call_with_a_picture_returns_what_the_model_takes(processor, picture):
    out = processor(text="<|image_1|>", images=picture())
    assert set(out) == {"input_ids", "attention_mask", "pixel_values", "image_sizes"}
    assert set(out) == set(processor.model_input_names)
    assert all(isinstance(value, torch.Tensor) for value in out.values())
    arrays = processor(text="<|image_1|>", images=picture(), return_tensors="np")
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    assert set(processor(text="nothing to see")) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    ("text", "pictures"),
    [
        ("<|image_1|> and nothing else", 0),
        ("no tag", 1),
        ("<|image_1|>", 2),
        ("<|image_2|>", 1),
        ("<|image_1|> <|image_1|>", 2),
        ("<|image_1|> <|image_3|>", 2),
        (["<|image_1|>", "text"], 2),
    ],
)
def test_tags_and_pictures_that_do_not_match_are_an_error(processor, picture, text, pictures):
    with pytest.raises(ValueError, match=r"pictures|named"):
        processor(text=text, images=[picture()] * pictures, padding=True)


def test_an_error_in_a_batch_names_the_text(processor, picture):
    with pytest.raises(ValueError, match="text 2: the prompt names no picture, and 1 came with it"):
        processor(text=["<|image_1|>", "b"], images=[[picture()], [picture()]], padding=True)


def test_a_call_without_text_is_an_error(processor, picture):
    with pytest.raises(ValueError, match="text is missing"):
        processor(images=picture())


def test_truncation_never_cuts_a_picture(processor, picture):
    text = "<|image_1|>\nlower newer upper older"
    whole = processor(text=text, images=picture())["input_ids"]
    length = whole.shape[1]
    cut = processor(text=text, images=picture(), truncation=True, max_length=length - 2)
    assert torch.equal(cut["input_ids"], whole[:, :-2])
    with pytest.raises(ValueError, match="cut into a picture"):
        processor(text=text, images=picture(), truncation=True, max_length=5)


def test_options_reach_the_image_processor_and_the_tokenizer(processor, picture):
    nested = processor(
        text="<|image_1|>", images=picture(), images_kwargs={"num_crops": 1}, text_kwargs={}
    )
    flat = processor(text="<|image_1|>", images=picture(), num_crops=1)
    assert nested["pixel_values"].shape[1] == flat["pixel_values"].shape[1] == 2
    assert torch.equal(nested["input_ids"], flat["input_ids"])
    without = processor(text="lower", add_special_tokens=False)["input_ids"]
    assert processor.tokenizer.bos_token_id not in without


def test_ids_hold_as_many_placeholders_as_the_crops_have_tokens(processor, picture):
    for size in [(24, 24), (100, 20), (20, 100), (47, 90)]:
        out = processor(text="<|image_1|>", images=picture(*size))
        height, width = (side // 24 for side in out["image_sizes"][0].tolist())
        tokens = (height * width + 1) * 9 + 1 + (height + 1) * 3
        assert int((out["input_ids"] == -1).sum()) == tokens


def test_it_is_saved_and_loaded_by_its_class_and_by_auto(tmp_path, processor, picture):
    processor.save_pretrained(tmp_path)
    text = "<|user|>\n<|image_1|>\nlower 12?<|end|>\n<|assistant|>\n"
    expected = processor(text=text, images=picture())
    for loader in (Phi3VProcessor, AutoProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is Phi3VProcessor
        out = loaded(text=text, images=picture())
        assert all(torch.equal(out[key], expected[key]) for key in expected)
        assert loaded.chat_template == processor.chat_template
        assert loaded.end_of_turn_ids == processor.end_of_turn_ids


def test_generated_ids_are_read_with_their_pictures_in_front(processor, picture):
    text = "<|user|>\n<|image_1|>\nWhat is shown?<|end|>\n"
    inputs = processor(text=[text], images=[picture(40, 24, 1)])
    (read,) = processor.batch_decode(inputs["input_ids"])
    assert read.count("<|image_1|>") == 1
    assert read.index("<|image_1|>") < read.index("What is shown?")
    for one in (processor.decode, lambda row, **o: processor.decode([row.tolist()], **o)[0]):
        assert one(inputs["input_ids"][0]) == read
    (plain,) = processor.post_process_image_text_to_text(inputs["input_ids"])
    assert "image_1" not in plain
    assert "What is shown?" in plain


def test_pictures_may_come_as_one_array(processor, picture):
    arrays = np.stack([np.asarray(picture(40, 24, seed)) for seed in (1, 2)])
    text = ["<|image_1|> a", "<|image_1|> b"]
    together = processor(text=text, images=arrays, padding=True)
    apart = processor(text=text, images=list(arrays), padding=True)
    assert torch.equal(together["pixel_values"], apart["pixel_values"])
