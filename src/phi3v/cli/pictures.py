"""Which pictures the words of a command line mean: files, folders, and patterns with a star.

pictures = picture_files(["a.jpg", "photos/", "more/*.png"])
prompts = in_prompts(picture_files(words, once=False), together=2)
"""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from phi3v.errors import UserError

# What a folder is searched for; a file that is named may end as it likes.
# Hidden files are left out: other systems keep notes beside pictures, as "._photo.jpg".
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# Reported with the files that cannot be read; a "?" in it is no pattern.
_WEB = ("http://", "https://")


def picture_files(words: Iterable[str], once: bool = True) -> list[Path]:
    """The files in the order of the words, those of a folder by name.

    Args:
        words: Of the command line.
        once: Leaves out a file that came before.

    Raises:
        UserError: No word at all, a folder without pictures, or a pattern that matches nothing.
    """
    files = [file for word in words for file in _files(word)]
    if not files:
        raise UserError("no pictures: name files, folders, or patterns such as 'photos/*.jpg'")
    return list(dict.fromkeys(files)) if once else files


def in_prompts(pictures: Sequence[Path], together: int) -> list[tuple[Path, ...]]:
    """The pictures of each prompt: so many together, one prompt after the other.

    Raises:
        UserError: Some would be left over.
    """
    if over := len(pictures) % together:
        raise UserError(
            f"--together {together}: of {len(pictures)} pictures the last {over} would be too few;"
            " name all that each prompt shows, one prompt after the other"
        )
    return [
        tuple(pictures[start : start + together]) for start in range(0, len(pictures), together)
    ]


def unlike_training(together: int, most: int) -> str | None:
    """What to say where prompts are unlike the examples that a run was trained on.

    Args:
        together: Pictures in a prompt.
        most: In an example of the run; 0 where that is not known.
    """
    if together == 1 and most > 1:
        return (
            "this run was trained on examples of several pictures; here each picture is asked about"
            " alone (--together N puts N into one prompt)"
        )
    if together > 1 and most == 1:
        return (
            f"this run was trained on examples of one picture; here {together} are in each prompt"
            " (without --together each is asked about alone)"
        )
    return None


def _files(word: str) -> list[Path]:
    path = Path(word)
    try:
        there, folder = path.exists(), path.is_dir()
    except OSError:  # a word that no file can be called by
        return [path]
    if folder:
        try:
            files = sorted(path.iterdir())
        except OSError as error:
            raise UserError(f"{word}: this folder cannot be read: {error.strerror}") from error
        found = [file for file in files if file.suffix.lower() in ENDINGS and file.name[0] != "."]
        if not found:
            raise UserError(f"{word}: there is no picture in this folder ({', '.join(ENDINGS)})")
        return found
    if there or word.startswith(_WEB) or not glob.has_magic(word):
        return [path]  # one that does not exist is reported with the others that cannot be read
    # Path.glob takes no absolute patterns.
    matches = sorted(Path(name) for name in glob.glob(word, recursive=True))  # noqa: PTH207
    if not matches:
        raise UserError(f"{word}: matches no file")
    return [file for file in matches if not file.is_dir()]
