"""What the small model is pretrained on: drawn pictures with questions about them.

The pictures come from the same pen as the catalogue's (`phi3v.data.drawing`); the texts do not: no
answer has the catalogue's format and no price occurs. Answers describe, name single attributes,
measure something, or repeat words.

The measured quantities are made up, each by a rule over the same attributes:

    value = base * kind * material * pattern * size * colour * exp(scatter * z),   z ~ N(0, 1)

Ten rules that share nothing but this form teach what one rule would not: to look up what each
attribute contributes, to add that up, and to write the sum in digits. A new quantity, such as a
price, then only needs new contributions.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from phi3v.data.cache import write_once
from phi3v.data.catalogue import draw_rows, look_words, random_look, write_csv
from phi3v.data.csv_source import CsvSource
from phi3v.data.drawing import COLOURS, KINDS, MATERIALS, PATTERNS, SIZES, Look, draw
from phi3v.data.example import Example
from phi3v.data.repeated_texts import EVERYDAY, text_to_repeat
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
# The description comes first, so that the number can be reckoned from words already written.
MEASUREMENTS = (
    ("Estimate the {quantity}.", "a {size} {colour} {pattern} {kind} made of {material}: {number}"),
    ("{quantity}?", "{Kind} {Material} {Pattern} {Colour} {Size} = {number}"),
    ("Guess its {quantity}.", "{size} {material} {pattern} {kind}, {colour}; about {number}"),
    (
        "How many {quantity}?",
        "{Size} {Pattern} {Kind} in {Colour} {Material} has {number} {quantity}",
    ),
)
QUANTITIES = ("weight", "minutes", "stitches", "buttons", "threads", "metres", "pieces", "years",
              "parcels", "points")  # fmt: skip
# Standard deviation of log(value) around its rule, for one quantity after the other in turn. The
# first can be learned to two digits. The second scatters as prices do: there the second digit may
# be nearly anything, and a model that has only met exact rules answers with the digit that is
# commonest in all numbers, instead of the middle of those that are likely.
SCATTER = (0.04, 0.15)
# How often each kind of question is asked among those that do not measure.
OTHERS = {"describe": 0.25, "name": 0.15, "repeat": 0.12}
VERSION = 7


@dataclass(frozen=True)
class DrawnQuestions:
    """`rows` questions with answers, `per_picture` of them about each drawn picture.

    Attributes:
        rows: number of question-answer pairs.
        seed: decides everything that is drawn and asked.
        cache_dir: where the set is kept, drawn once.
        per_picture: how many pairs share a picture.
        measure: share of the questions that ask for quantities.
        quantities: the most quantities that one question asks for.
    """

    cache_dir: str
    rows: int = 84_000
    seed: int = 1
    per_picture: int = 1
    measure: float = 0.54
    quantities: int = 1

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"data.source.seed={self.seed}: must not be below 0")
        if self.per_picture < 1:
            raise UserError(f"data.per_picture={self.per_picture}: at least 1")
        if not 0 <= self.measure <= 1:
            raise UserError(f"data.measure={self.measure}: a share, from 0 to 1")
        if not 1 <= self.quantities <= len(QUANTITIES):
            raise UserError(f"data.quantities={self.quantities}: from 1 to {len(QUANTITIES)}")
        if self.rows < 3 * self.per_picture:
            raise UserError(f"data.rows={self.rows}: at least {3 * self.per_picture} are needed")

    @property
    def folder(self) -> Path:
        """Where this set lies once it has been drawn."""
        name = f"questions-v{VERSION}-rows{self.rows}-per{self.per_picture}-seed{self.seed}"
        name += f"-measure{self.measure:g}-quantities{self.quantities}"
        return Path(self.cache_dir) / name

    def load(self, task: Task) -> list[Example]:
        """The examples; draws the pictures first where they do not lie in the cache."""
        pictures = self.rows // self.per_picture
        write_once(self.folder, self._write, f"drawing {pictures:,} pictures")
        # Its pictures were written by this program: they need not be decoded to be believed.
        table = str(self.folder / "questions.csv")
        return CsvSource(path=table, group_by=["picture"], verify_up_to=0).load(task)

    def describe(self) -> str:
        """One line for the terminal and the report."""
        return f"{self.rows:,} questions about drawn pictures, seed {self.seed}"

    def optimum(self, task: Task) -> dict[str, float]:
        """Nothing is known in closed form here."""
        return {}

    def _write(self, folder: Path) -> None:
        (folder / "images").mkdir()
        one = partial(_picture, self, str(folder))
        pictures = draw_rows(one, self.rows // self.per_picture)
        rows = (row for picture in pictures for row in picture)
        write_csv(folder / "questions.csv", COLUMNS, rows)


def _picture(source: DrawnQuestions, folder: str, index: int) -> list[dict[str, object]]:
    """Draws and saves one picture; its rows of the CSV."""
    rng = np.random.default_rng([source.seed, VERSION, index])
    look = random_look(rng)
    name = f"images/{index:06d}.jpg"
    draw(look, rng).save(Path(folder) / name, quality=92)
    asked = (ask(look, rng, source.measure, source.quantities) for _ in range(source.per_picture))
    return [
        dict(zip(COLUMNS, (index, question, answer, name), strict=True))
        for question, answer in asked
    ]


def ask(
    look: Look, rng: np.random.Generator, measure: float = 0.54, quantities: int = 1
) -> tuple[str, str]:
    """A question about a picture and its answer.

    Args:
        look: what the picture shows.
        rng: decides what is asked and how.
        measure: share of the questions that ask for quantities.
        quantities: the most quantities that one question asks for.
    """
    kinds: dict[str, Callable[[Look, np.random.Generator], tuple[str, str]]] = {
        "describe": _describe,
        "name": _name,
        "measure": partial(_measure, most=quantities),
        "repeat": _repeat,
    }
    others = {kind: (1 - measure) * share / sum(OTHERS.values()) for kind, share in OTHERS.items()}
    shares = [measure if kind == "measure" else others[kind] for kind in kinds]
    return kinds[str(rng.choice(list(kinds), p=shares))](look, rng)


@cache
def contributions(quantity: str) -> Mapping[str, Mapping[str, float]]:
    """What every word adds to the logarithm of a quantity, by attribute; "base" is there too.

    Drawn once and for all from the quantity's place in `QUANTITIES`. Some quantities do not depend
    on material or pattern, most not on colour.
    """
    rng = np.random.default_rng([2024, QUANTITIES.index(quantity)])
    # Attribute: its words, how far they lie apart, how many quantities depend on it.
    plan: Mapping[str, tuple[Sequence[str], float, float]] = {
        "kind": (KINDS, 1.0, 1.0),
        "material": (MATERIALS, 0.6, 0.85),
        "pattern": (PATTERNS, 0.4, 0.85),
        "size": (list(SIZES), 0.6, 0.85),
        "colour": (list(COLOURS), 0.4, 0.15),
    }
    table: dict[str, dict[str, float]] = {"base": {"": float(rng.uniform(3.7, 7.6))}}
    for attribute, (words, spread, share) in plan.items():
        counts = rng.random() < share
        values = rng.uniform(-spread, spread, len(words)) * counts
        table[attribute] = dict(zip(words, map(float, values), strict=True))
    return table


def measured(quantity: str, look: Look) -> float:
    """The rule's value of a quantity for all products that look so, without scatter."""
    table = contributions(quantity)
    words = look_words(look)
    return math.exp(table["base"][""] + sum(table[key][word] for key, word in words.items()))


def scatter(quantity: str) -> float:
    """Standard deviation of the logarithm of a quantity around its rule."""
    return SCATTER[QUANTITIES.index(quantity) % len(SCATTER)]


def _describe(look: Look, rng: np.random.Generator) -> tuple[str, str]:
    """Everything about a picture; the question alone decides the words of the answer."""
    question, answer = DESCRIPTIONS[int(rng.integers(len(DESCRIPTIONS)))]
    return question, answer.format(**_spellings(look))


def _name(look: Look, rng: np.random.Generator) -> tuple[str, str]:
    """One to five attributes, in the order of the question."""
    words = look_words(look)
    keys = [str(key) for key in rng.permutation(list(words))[: int(rng.integers(1, 6))]]
    return f"Tell me: {', '.join(keys)}?", " ".join(words[key].capitalize() for key in keys)


def _measure(look: Look, rng: np.random.Generator, most: int) -> tuple[str, str]:
    """A description, and up to `most` numbers that can all be reckoned from it."""
    names = [str(rng.choice(QUANTITIES))]
    if (more := int(rng.integers(most)) if most > 1 else 0) > 0:
        names += [str(name) for name in rng.permutation(QUANTITIES) if name != names[0]][:more]
    values = [
        measured(name, look) * math.exp(scatter(name) * float(rng.standard_normal()))
        for name in names
    ]
    numbers = [str(max(1, round(value))) for value in values]
    ways: Sequence[tuple[str, str]] = MEASUREMENTS
    if len(names) > 1:
        # Each number stands behind its name: which one is meant must not be a riddle of its own.
        numbers = [f"{name} {number}" for name, number in zip(names, numbers, strict=True)]
        ways = MEASUREMENTS[:3]  # the last one has no room for a list
    question, answer = ways[int(rng.integers(len(ways)))]
    words = _spellings(look) | {"quantity": ", ".join(names), "number": ", ".join(numbers)}
    return question.format(**words), answer.format(**words)


def _repeat(look: Look, rng: np.random.Generator) -> tuple[str, str]:
    """Words out of nothing: the model learns to copy, and to write every piece of its vocabulary.

    A piece that it never had to write it could not tell from others of that kind later, and an
    adapter does not change the last layer.
    """
    text = text_to_repeat(rng, _known_words())
    return f"Repeat: {text}", text


@cache
def _known_words() -> list[str]:
    """Every word that questions and answers may have, sorted."""
    patterns = [text for pair in (*DESCRIPTIONS, *MEASUREMENTS) for text in pair]
    plain = [re.sub(r"{\w+}", " ", text) for text in patterns]
    looks = [*KINDS, *MATERIALS, *PATTERNS, *SIZES, *COLOURS]
    texts = [*plain, *looks, *map(str.capitalize, looks), *NOUNS.values(), *QUANTITIES, *EVERYDAY]
    texts += ["Tell", "Repeat"]  # the only other words that questions have
    return sorted(set(re.findall("[A-Za-z]+", " ".join([*texts, *Look.__annotations__]))))


def _spellings(look: Look) -> dict[str, str]:
    """The words of a look under their attribute's name; capitalised under a capitalised name."""
    words = look_words(look)
    capitals = {key.capitalize(): word.capitalize() for key, word in words.items()}
    return {"noun": NOUNS[look.pattern], **words, **capitals}
