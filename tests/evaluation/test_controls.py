"""The picture controls: nothing of the right picture is left, everything else stays."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from phi3v.data import Example
from phi3v.errors import UserError
from phi3v.evaluation.controls import blank_picture, shuffled_pictures


def example(number, group=None, pictures=1):
    paths = tuple(Path(f"{number}-{index}.png") for index in range(pictures))
    return Example(f"id{number}", paths, {"price": float(number)}, group or f"g{number}", "row")


def test_a_blank_picture_is_one_gray_of_the_upright_size(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (30, 20), "red").save(path, exif=exif)
    blank = blank_picture(path, "row 1")
    assert blank.size == (20, 30)
    assert blank.mode == "RGB"
    assert blank.getcolors() == [(600, (128, 128, 128))]


def test_a_blank_picture_of_a_missing_file_is_an_error_that_names_the_row(tmp_path):
    with pytest.raises(UserError, match="row 1"):
        blank_picture(tmp_path / "no.png", "row 1")


@pytest.mark.parametrize("sizes", [[1] * 2, [1] * 7, [3, 3], [4, 2, 1, 1], [5, 4, 3], [2, 2, 2, 2]])
def test_every_example_gets_pictures_of_another_group(sizes):
    groups = [f"g{index}" for index, size in enumerate(sizes) for _ in range(size)]
    examples = [example(number, group) for number, group in enumerate(groups)]
    owner = {one.images: one for one in examples}
    for seed in range(5):
        shuffled = shuffled_pictures(examples, seed)
        assert Counter(one.images for one in shuffled) == Counter(owner.keys())
        for before, after in zip(examples, shuffled, strict=True):
            assert owner[after.images].group != before.group


@pytest.mark.parametrize("sizes", [[3], [5, 1], [4, 1, 2]])
def test_where_one_group_is_too_large_every_example_still_gets_another_ones_pictures(sizes):
    groups = [f"g{index}" for index, size in enumerate(sizes) for _ in range(size)]
    examples = [example(number, group) for number, group in enumerate(groups)]
    owner = {one.images: one for one in examples}
    shuffled = shuffled_pictures(examples, 0)
    strangers = 0
    for before, after in zip(examples, shuffled, strict=True):
        assert after.images != before.images
        strangers += owner[after.images].group != before.group
    assert strangers == 2 * (sum(sizes) - max(sizes))  # no exchange could do more


def test_all_but_the_pictures_stays_and_so_does_their_number():
    examples = [example(n, pictures=1 + n % 3) for n in range(9)] + [example(9, pictures=7)]
    shuffled = shuffled_pictures(examples, 3)
    for before, after in zip(examples, shuffled, strict=True):
        assert (after.id, after.values, after.group) == (before.id, before.values, before.group)
        assert len(after.images) == len(before.images)
        assert not set(after.images) & set(before.images)


def test_the_seed_decides_and_the_order_of_the_examples_does_not():
    examples = [example(number) for number in range(20)]
    shuffled = shuffled_pictures(examples, 0)
    assert shuffled == shuffled_pictures(examples, 0)
    assert shuffled != shuffled_pictures(examples, 1)
    turned = shuffled_pictures(examples[::-1], 0)
    assert {one.id: one.images for one in turned} == {one.id: one.images for one in shuffled}


def test_one_example_alone_cannot_be_shuffled():
    with pytest.raises(UserError, match="at least two examples"):
        shuffled_pictures([example(0)], 0)
