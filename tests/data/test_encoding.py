"""Encoding is the published tokenisation; nothing in a user's text is read as a control token."""

import dataclasses
import pickle

import pytest
import torch
from PIL import Image

from phi3v.data import Encoder, prompt_text
from phi3v.errors import UserError


@pytest.fixture
def encode(processor, task) -> Encoder:
    return Encoder(processor, task, max_length=1000)


def test_the_prompt_is_the_published_template_with_a_line_for_each_picture():
    assert prompt_text("Why?", 2) == (
        "<|user|>\n<|image_1|>\n<|image_2|>\nWhy?<|end|>\n<|assistant|>\n"
    )


@pytest.mark.parametrize("sizes", [[(60, 40)], [(60, 40), (30, 90)]])
def test_ids_and_pixels_are_those_of_the_processor_for_the_whole_string(
    encode, processor, task, example, sizes
):
    one = example(sizes=sizes)
    text = prompt_text(task.write_question(one.values), len(sizes))
    text += task.write_answer(one.values) + "<|end|>\n"
    expected = processor(
        text=text, images=[Image.open(path) for path in one.images], return_tensors="pt"
    )

    encoded = encode(one)

    length = len(encoded.input_ids)
    assert encoded.input_ids.tolist() == expected["input_ids"][0, :length].tolist()
    rest = expected["input_ids"][0, length:].tolist()
    assert processor.tokenizer.convert_ids_to_tokens(rest) == ["\u2581", "<0x0A>"]
    assert torch.equal(encoded.image_sizes, expected["image_sizes"])
    for crops, whole in zip(encoded.pixel_values, expected["pixel_values"], strict=True):
        assert torch.equal(crops, whole[: len(crops)])
        assert not whole[len(crops) :].any()


def test_the_prompt_for_generation_is_the_beginning_of_the_training_ids(
    encode, processor, task, example
):
    one = example()
    prompt = processor(
        text=prompt_text(task.write_question(one.values), 1),
        images=[Image.open(one.images[0])],
        return_tensors="pt",
    )["input_ids"][0]

    encoded = encode(one)

    assert torch.equal(encoded.input_ids[: encoded.prompt_length], prompt)
    assert processor.tokenizer.convert_ids_to_tokens([int(prompt[-1])]) == ["<|assistant|>"]


@pytest.mark.parametrize("title", ["red scarf", "Œuvre  in zwei\nZeilen", "42", "a<b> & |end|>"])
def test_what_follows_the_prompt_reads_exactly_as_answer_and_end(
    encode, processor, task, example, title
):
    one = example(title=title)

    encoded = encode(one)

    supervised = encoded.input_ids[encoded.prompt_length :]
    assert processor.tokenizer.decode(supervised) == task.write_answer(one.values) + "<|end|>"


def test_lengths_are_known_from_headers_alone(encode, example):
    one = example(sizes=[(60, 40), (30, 90)])

    encoded = encode(one)
    lengths = encode.lengths(one)

    assert lengths.total == len(encoded.input_ids)
    assert lengths.pictures == int((encoded.input_ids < 0).sum())
    assert lengths.answer == len(encoded.input_ids) - encoded.prompt_length


def test_lengths_of_a_picture_on_its_side_are_those_of_the_upright_picture(
    encode, example, tmp_path
):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 60)).save(tmp_path / "side.jpg", exif=exif)
    one = dataclasses.replace(example(), images=(tmp_path / "side.jpg",))

    encoded = encode(one)

    assert encoded.image_sizes[0, 0] > encoded.image_sizes[0, 1]
    assert encode.lengths(one).total == len(encoded.input_ids)


@pytest.mark.parametrize(
    "token", ["<|end|>", "<|image_2|>", "<|image_1|>", "<|user|>", "<s>", "</s>", "<|endoftext|>"]
)
def test_a_control_token_in_a_text_is_refused_with_its_row(encode, example, token):
    one = example(title=f"red {token} scarf")

    for function in (encode, encode.lengths):
        with pytest.raises(UserError) as refused:
            function(one)
        assert str(refused.value).startswith(f"shop.csv row 7: the answer contains '{token}'")


def test_a_control_token_in_a_question_is_refused(processor, task, example):
    task = type(task)(
        "t", "What costs {title}?", "{full_price}", {"full_price": "number"}, "full_price/mae"
    )

    with pytest.raises(
        UserError, match="row 7: the question contains '<|image_2|>'".replace("|", r"\|")
    ):
        Encoder(processor, task, 1000).lengths(example(title="<|image_2|>"))


def test_an_example_longer_than_the_limit_is_refused_with_its_length(processor, task, example):
    one = example()
    length = Encoder(processor, task, 1000).lengths(one).total

    assert len(Encoder(processor, task, length)(one).input_ids) == length
    short = Encoder(processor, task, length - 1)
    for function in (short, short.lengths):
        with pytest.raises(UserError, match=rf"^shop.csv row 7: {length} tokens .*num_crops"):
            function(one)


def test_an_example_without_a_picture_is_refused(encode, example):
    with pytest.raises(UserError, match=r"^shop\.csv row 7: the example has no picture"):
        encode(dataclasses.replace(example(), images=()))


def test_a_missing_picture_is_refused_before_decoding(encode, example):
    one = example()
    one.images[0].unlink()

    with pytest.raises(UserError, match=r"^shop\.csv row 7: picture not found"):
        encode.lengths(one)


def test_a_picture_too_thin_for_the_model_is_refused_before_decoding(encode, example):
    one = example(sizes=[(2000, 1)])

    for function in (encode, encode.lengths):
        with pytest.raises(
            UserError, match=r"^shop\.csv row 7: picture of 2000x1 pixels is too thin"
        ):
            function(one)


def test_prompts_that_were_remembered_and_forgotten_are_encoded_alike(
    processor, task, example, monkeypatch
):
    monkeypatch.setattr("phi3v.data.encoding._REMEMBERED_PROMPTS", 2)
    rows = [example("a" * size, sizes=[(60, 10 * size)]) for size in (1, 3, 12, 3, 1, 12)]
    encode = Encoder(processor, task, 1000)

    for row in rows:
        fresh = Encoder(processor, task, 1000)(row)
        assert torch.equal(encode(row).input_ids, fresh.input_ids)
        assert encode(row).prompt_length == fresh.prompt_length


def test_an_encoder_can_be_sent_to_a_process_that_was_not_forked(encode, example):
    one = example()
    encode(one)

    sent = pickle.loads(pickle.dumps(encode))

    assert torch.equal(sent(one).input_ids, encode(one).input_ids)


def test_a_prompt_alone_needs_no_answer(processor, task, example):
    one = dataclasses.replace(example(), values={})

    encoded = Encoder(processor, task, 1000, with_answer=False)(one)

    assert encoded.prompt_length == len(encoded.input_ids)


def test_other_pictures_can_be_put_in(processor, task, example):
    def blank(path, origin):
        return Image.new("RGB", (60, 40), "white")

    white = Encoder(processor, task, 1000, picture=blank)(example())
    seen = Encoder(processor, task, 1000)(example())

    assert torch.equal(white.input_ids, seen.input_ids)
    assert not torch.equal(white.pixel_values[0], seen.pixel_values[0])
    assert white.pixel_values[0].std(dim=(0, 2, 3)).max() < 1e-6
