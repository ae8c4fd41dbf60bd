"""A batch is its rows, padded: nothing but the answer is learned, nothing of a row changes."""

import pytest
import torch

from phi3v.data import Collator, open_picture
from phi3v.errors import UserError


@pytest.fixture
def rows(example):
    """Rows whose texts, pictures and numbers of pictures differ."""
    return [
        example("a", sizes=[(60, 40)], title="scarf"),
        example("bb", sizes=[(40, 160), (50, 50)], title="a much longer name of a red scarf"),
        example("ccc", sizes=[(200, 50)], title="boots"),
    ]


def test_labels_read_exactly_as_the_answers_with_their_end(processor, task, rows):
    batch = Collator(processor, task, 1000)(rows)

    for row, labels, ids in zip(rows, batch["labels"], batch["input_ids"], strict=True):
        learned = labels != -100
        text = processor.tokenizer.decode(labels[learned])
        assert text == task.write_answer(row.values) + "<|end|>"
        assert torch.equal(labels[learned], ids[learned])


def test_pictures_question_and_padding_are_never_learned(processor, task, rows):
    batch = Collator(processor, task, 1000)(rows)

    assert (batch["labels"][batch["input_ids"] < 0] == -100).all()
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert (batch["labels"] == -100).sum() > (batch["attention_mask"] == 0).sum()
    first = (batch["labels"] != -100).int().argmax(dim=1)
    before = batch["input_ids"][torch.arange(3), first - 1]
    assistant = processor.tokenizer.convert_tokens_to_ids("<|assistant|>")
    assert before.tolist() == [assistant] * 3


@pytest.mark.parametrize("mode", ["train", "prompt"])
def test_a_row_of_a_batch_is_the_row_alone(processor, task, rows, mode):
    collate = Collator(processor, task, 1000, mode)
    batch = collate(rows)
    picture = 0

    for number, row in enumerate(rows):
        alone = collate([row])
        real = batch["attention_mask"][number].bool()
        assert torch.equal(batch["input_ids"][number][real], alone["input_ids"][0])
        assert alone["attention_mask"].all()
        if mode == "train":
            assert torch.equal(batch["labels"][number][real], alone["labels"][0])
        for crops, size in zip(alone["pixel_values"], alone["image_sizes"], strict=True):
            assert torch.equal(batch["pixel_values"][picture, : len(crops)], crops)
            assert not batch["pixel_values"][picture, len(crops) :].any()
            assert torch.equal(batch["image_sizes"][picture], size)
            picture += 1
    assert picture == len(batch["pixel_values"]) == 4


def test_a_batch_is_the_one_that_the_processor_makes(processor, task, rows):
    texts = [
        "<|user|>\n"
        + "".join(f"<|image_{k + 1}|>\n" for k in range(len(row.images)))
        + f"{task.write_question(row.values)}<|end|>\n<|assistant|>\n"
        for row in rows
    ]
    pictures = [open_picture(path, "row") for row in rows for path in row.images]
    expected = processor(
        text=texts, images=pictures, padding=True, padding_side="left", return_tensors="pt"
    )

    batch = Collator(processor, task, 1000, mode="prompt")(rows)

    for key in ("input_ids", "attention_mask", "image_sizes"):
        assert torch.equal(batch[key], expected[key]), key
    crops = batch["pixel_values"].shape[1]
    assert torch.equal(batch["pixel_values"], expected["pixel_values"][:, :crops])


def test_pixels_reach_to_the_most_real_crops_and_no_further(processor, task, example):
    collate = Collator(processor, task, 1000)

    batch = collate([example("a", [(50, 160)]), example("bb", [(170, 50)])])

    assert processor.image_processor.num_crops == 4
    assert batch["image_sizes"].tolist() == [[3 * 48, 48], [48, 3 * 48]]
    assert batch["pixel_values"].shape == (2, 1 + 3, 3, 48, 48)


def test_prompts_end_together_and_training_rows_begin_together(processor, task, rows):
    prompts = Collator(processor, task, 1000, mode="prompt")(rows)
    training = Collator(processor, task, 1000)(rows)

    assert prompts["attention_mask"][:, -1].all()
    assert not prompts["attention_mask"][:, 0].all()
    assert training["attention_mask"][:, 0].all()
    assert not training["attention_mask"][:, -1].all()
    assert "labels" not in prompts


def test_one_evaluation_batch_holds_the_training_batch_and_the_prompts(processor, task, rows):
    both = Collator(processor, task, 1000, mode="eval")(rows)
    training = Collator(processor, task, 1000)(rows)
    prompts = Collator(processor, task, 1000, mode="prompt")(rows)

    for key in ("input_ids", "attention_mask", "labels", "pixel_values", "image_sizes"):
        assert torch.equal(both[key], training[key]), key
    assert torch.equal(both["prompt_input_ids"], prompts["input_ids"])
    assert torch.equal(both["prompt_attention_mask"], prompts["attention_mask"])
    assert both["ids"] == ["a", "bb", "ccc"]
    assert both["truths"] == [row.values for row in rows]


def test_an_unknown_mode_is_refused(processor, task):
    with pytest.raises(UserError, match="'train', 'prompt' or 'eval', got 'test'"):
        Collator(processor, task, 1000, mode="test")
