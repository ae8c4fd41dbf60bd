"""What the small model is pretrained on: drawn pictures with questions about them.

The pictures come from the same pen as the catalogue's (`phi3v.data.drawing`); the texts do not: no
answer has the catalogue's format and no price occurs. Answers describe, name single attributes,
guess a weight or a time of making (rules over the same attributes, so that the model learns to
answer with numbers), or repeat words, so that every piece of the tokenizer has been seen.
"""

import math
import string
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from phi3v.data.cache import write_once
from phi3v.data.catalogue import draw_rows, look_words, random_look, write_csv
from phi3v.data.csv_source import CsvSource
from phi3v.data.drawing import Look, draw
from phi3v.data.example import Example
from phi3v.errors import UserError
from phi3v.task import Task

COLUMNS = ("picture", "question", "answer", "local_image_path")
NOUNS = {
    "plain": "no pattern",
    "striped": "stripes",
    "dotted": "dots",
    "checked": "checks",
}
# Question and answer; words in capitals are written with one.
DESCRIPTIONS = (
    ("Describe the picture.", "a {size} {colour} {pattern} {kind} made of {material}"),
    (
        "What do you see?",
        "This {kind} is {colour}. It is {material} with {noun}, and it is {size}.",
    ),
    (
        "List all properties.",
        "kind = {kind}; size = {size}; pattern = {pattern}; material = {material}; "
        "colour = {colour}",
    ),
    ("Name all in capitals.", "{Kind} {Material} {Pattern} {Colour} {Size}"),
)
# Grams of a medium piece of cotton; and minutes that a plain one takes to make.
WEIGHT = {"shirt": 180, "bag": 520, "shoe": 410, "scarf": 140, "dress": 330, "trousers": 360,
          "hat": 95, "umbrella": 620}  # fmt: skip
DENSITY = {"cotton": 1.0, "wool": 1.35, "leather": 1.9}
BULK = {"small": 0.6, "medium": 1.0, "large": 1.6}
MINUTES = {"shirt": 95, "bag": 240, "shoe": 310, "scarf": 60, "dress": 205, "trousers": 130,
           "hat": 75, "umbrella": 160}  # fmt: skip
CRAFT = {"plain": 1.0, "striped": 1.25, "dotted": 1.6, "checked": 2.0}
TOIL = {"cotton": 1.0, "wool": 1.2, "leather": 1.7}
VERSION = 4


@dataclass(frozen=True)
class DrawnQuestions:
    """`rows` questions with answers, `per_picture` of them about each drawn picture.

    Attributes:
        rows: number of question-answer pairs.
        seed: decides everything that is drawn and asked.
        cache_dir: where the set is kept, drawn once.
        per_picture: how many pairs share a picture.
    """

    cache_dir: str
    rows: int = 60_000
    seed: int = 1
    per_picture: int = 2

    def __post_init__(self) -> None:
        if self.rows < 3 * self.per_picture:
            raise UserError(f"data.rows={self.rows}: at least {3 * self.per_picture} are needed")

    @property
    def folder(self) -> Path:
        """Where this set lies once it has been drawn."""
        name = f"questions-v{VERSION}-rows{self.rows}-per{self.per_picture}-seed{self.seed}"
        return Path(self.cache_dir) / name

    def load(self, task: Task) -> list[Example]:
        """The examples; draws the pictures first where they do not lie in the cache."""
        pictures = self.rows // self.per_picture
        write_once(self.folder, self._write, f"drawing {pictures:,} pictures")
        path = str(self.folder / "questions.csv")
        return CsvSource(path=path, group_by=["picture"]).load(task)

    def describe(self) -> str:
        """One line for the terminal and the report."""
        return f"{self.rows:,} questions about drawn pictures, seed {self.seed}"

    def optimum(self, task: Task) -> dict[str, float]:
        """Nothing is known in closed form here."""
        return {}

    def _write(self, folder: Path) -> None:
        (folder / "images").mkdir()
        one = partial(_picture, self.seed, self.per_picture, str(folder))
        pictures = draw_rows(one, self.rows // self.per_picture)
        rows = (row for picture in pictures for row in picture)
        write_csv(folder / "questions.csv", COLUMNS, rows)


def _picture(seed: int, per_picture: int, folder: str, index: int) -> list[dict[str, object]]:
    """Draws and saves one picture; its rows of the CSV."""
    rng = np.random.default_rng([seed, VERSION, index])
    look = random_look(rng)
    name = f"images/{index:06d}.jpg"
    draw(look, rng).save(Path(folder) / name, quality=92)
    # Of the first questions most ask for everything, which teaches the most about a picture.
    asked = [
        ask(look, rng, describe=number == 0 and rng.random() < 0.85)
        for number in range(per_picture)
    ]
    return [
        dict(zip(COLUMNS, (index, question, answer, name), strict=True))
        for question, answer in asked
    ]


def ask(look: Look, rng: np.random.Generator, describe: bool) -> tuple[str, str]:
    """A question about a picture and its answer.

    Args:
        look: what the picture shows.
        rng: decides what is asked and how.
        describe: ask for all attributes at once, which teaches the most about a picture.
    """
    if describe:
        return _describe(look, rng)
    kinds = (_name_one, _name_some, _weight, _minutes, _repeat)
    return kinds[int(rng.choice(len(kinds), p=(0.2, 0.34, 0.2, 0.2, 0.06)))](look, rng)


def _describe(look: Look, rng: np.random.Generator) -> tuple[str, str]:
    """Everything about a picture; the question alone decides the words of the answer."""
    words = look_words(look)
    question, answer = DESCRIPTIONS[int(rng.integers(len(DESCRIPTIONS)))]
    capitals = {key.capitalize(): word.capitalize() for key, word in words.items()}
    return question, answer.format(noun=NOUNS[look.pattern], **words, **capitals)


def _name_one(look: Look, rng: np.random.Generator) -> tuple[str, str]:
    words = look_words(look)
    key = str(rng.choice(list(words)))
    return f"Which {key}?", words[key]


def _name_some(look: Look, rng: np.random.Generator) -> tuple[str, str]:
    words = look_words(look)
    keys = [str(key) for key in rng.permutation(list(words))[: int(rng.integers(2, 5))]]
    return f"Tell me: {', '.join(keys)}?", " ".join(words[key].capitalize() for key in keys)


def _weight(look: Look, rng: np.random.Generator) -> tuple[str, str]:
    grams = WEIGHT[look.kind] * DENSITY[look.material] * BULK[look.size]
    return "How heavy is it?", f"{_scatter(grams, rng)} grams"


def _minutes(look: Look, rng: np.random.Generator) -> tuple[str, str]:
    minutes = MINUTES[look.kind] * CRAFT[look.pattern] * TOIL[look.material]
    return "How long does it take to make?", f"{_scatter(minutes, rng)} minutes"


def _scatter(value: float, rng: np.random.Generator) -> int:
    """A number near `value`, as nature scatters: by about 5 %."""
    return round(value * math.exp(0.05 * float(rng.standard_normal())))


def _repeat(look: Look, rng: np.random.Generator) -> tuple[str, str]:
    """Words out of nothing: the model learns to copy, and meets every character."""
    alphabet = string.ascii_letters * 2 + string.digits * 3 + string.punctuation.replace("|", "")
    words = [
        "".join(rng.choice(list(alphabet), size=int(rng.integers(1, 5))))
        for _ in range(int(rng.integers(1, 4)))
    ]
    text = " ".join(words)
    return f"Repeat: {text}", text
