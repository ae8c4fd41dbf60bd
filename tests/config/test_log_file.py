"""A log file on a full disk: one line, and nothing else is kept from going on."""

import logging
from pathlib import Path

import pytest

from phi3v.config.log_file import LogFile


@pytest.fixture
def log_into():
    """A logger of its own for each file, and no handler left afterwards."""
    made = []

    def make(file: Path) -> logging.Logger:
        logger = logging.Logger(str(file))
        made.append(LogFile(file))
        logger.addHandler(made[-1])
        return logger

    yield make
    for handler in made:
        handler.close()


def test_messages_are_written(log_into, tmp_path) -> None:
    log = log_into(tmp_path / "train.log")
    assert (tmp_path / "train.log").read_text() == ""
    log.warning("one")
    log.warning("two")
    assert (tmp_path / "train.log").read_text() == "one\ntwo\n"


def test_a_full_disk_is_told_once_and_what_comes_later_is_written(
    log_into, tmp_path, capfd
) -> None:
    file = tmp_path / "train.log"
    file.symlink_to("/dev/full")
    log = log_into(file)
    for number in range(3):
        log.warning("message %d", number)
    assert (
        capfd.readouterr().err == f"{file}: messages are missing there (No space left on device)\n"
    )
    file.unlink()
    log.warning("there is space")
    assert file.read_text() == "there is space\n"
    assert capfd.readouterr().err == ""


def test_a_file_that_cannot_be_made_is_told_as_well(log_into, tmp_path, capfd) -> None:
    log = log_into(tmp_path / "gone" / "train.log")
    log.warning("message")
    assert capfd.readouterr().err.count("\n") == 1


def test_a_mistake_in_a_message_is_shown_as_ever(log_into, tmp_path, capfd) -> None:
    log_into(tmp_path / "train.log").warning("%d", "not a number")
    assert "Logging error" in capfd.readouterr().err
