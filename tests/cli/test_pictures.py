"""Words of a command line become the picture files that they mean."""

import pytest

from phi3v.cli.pictures import in_prompts, picture_files
from phi3v.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "d.jpg").touch()
    return tmp_path


def test_a_folder_stands_for_the_pictures_in_it(folder):
    assert [file.name for file in picture_files([str(folder)])] == ["a.jpg", "b.PNG", "c.webp"]


def test_a_pattern_stands_for_what_it_matches(folder):
    assert [file.name for file in picture_files([f"{folder}/*.jpg"])] == ["a.jpg"]
    assert [file.name for file in picture_files([f"{folder}/**/*.jpg"])] == ["a.jpg", "d.jpg"]


def test_words_keep_their_order_and_no_file_comes_twice(folder):
    words = [f"{folder}/c.webp", str(folder), f"{folder}/c.webp"]
    assert [file.name for file in picture_files(words)] == ["c.webp", "a.jpg", "b.PNG"]


def test_in_prompts_a_file_may_come_twice(folder):
    words = [f"{folder}/c.webp", f"{folder}/a.jpg", f"{folder}/c.webp", f"{folder}/b.PNG"]
    prompts = in_prompts(picture_files(words, once=False), together=2)
    assert [[file.name for file in one] for one in prompts] == [
        ["c.webp", "a.jpg"],
        ["c.webp", "b.PNG"],
    ]


def test_hidden_files_of_a_folder_are_left_out_unless_they_are_named(folder):
    (folder / "._a.jpg").touch()
    (folder / ".b.png").touch()
    assert [file.name for file in picture_files([str(folder)])] == ["a.jpg", "b.PNG", "c.webp"]
    assert [file.name for file in picture_files([f"{folder}/.b.png"])] == [".b.png"]


def test_what_can_be_no_file_is_reported_with_the_files_that_cannot_be_read(folder):
    address, long = "https://shop.example/a.jpg?width=9", "a" * 5000
    words = [address, f"{folder}/a.jpg", long]
    assert [file.name for file in picture_files(words)] == ["a.jpg?width=9", "a.jpg", long]


def test_a_folder_that_cannot_be_read_is_one_line(folder, monkeypatch):
    def iterdir(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(folder), "iterdir", iterdir)
    with pytest.raises(UserError, match=f"^{folder}: this folder cannot be read: Permission deni"):
        picture_files([str(folder)])


def test_a_file_with_a_star_in_its_name_is_a_file(folder):
    odd = folder / "x[1].jpg"
    odd.touch()
    assert picture_files([str(odd)]) == [odd]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no pictures"),
        (["{folder}/empty"], "no picture in this folder"),
        (["{folder}/*.tiff"], "matches no file"),
    ],
)
def test_words_without_a_picture_are_refused(folder, words, told):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=told):
        picture_files([word.format(folder=folder) for word in words])
