"""What is written is there as a whole, or it is said in one line why not."""

import pytest

from phi3v.errors import UserError
from phi3v.files import write_whole


def test_a_file_is_written_with_the_folders_that_it_needs(tmp_path):
    write_whole(tmp_path / "a" / "b.txt", "eins\r\nzw\u00f6lf\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "eins\r\nzw\u00f6lf\n".encode()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_on_a_full_disk_the_earlier_file_stays_and_one_line_says_so(tmp_path):
    file = tmp_path / "b.txt"
    write_whole(file, "before")
    (tmp_path / "b.txt.part").symlink_to("/dev/full")
    with pytest.raises(UserError) as caught:
        write_whole(file, "after")
    assert str(caught.value).startswith(f"{file}: it cannot be written, ")
    assert "No space left on device" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_place_that_is_no_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"file/b\.txt: it cannot be written"):
        write_whole(tmp_path / "file" / "b.txt", "text")
