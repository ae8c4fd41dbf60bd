"""What the small model is pretrained on: it teaches to see and to reckon, never the catalogue."""

import csv
import dataclasses
import math
import re
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from phi3v.data.catalogue import look_words, random_look
from phi3v.data.drawing import COLOURS, KINDS, Look
from phi3v.data.drawn_questions import (
    QUANTITIES,
    SCATTER,
    DrawnQuestions,
    ask,
    contributions,
    measured,
    scatter,
)
from phi3v.errors import UserError
from phi3v.model.tokenization import load_tokenizer
from phi3v.task import Task

TINY = Path(__file__).parents[2] / "assets" / "tiny"
LOOK = Look(kind="bag", material="wool", pattern="dotted", colour="red", size="small")


@pytest.fixture(scope="module")
def asked() -> list[tuple[Look, str, str]]:
    rng = np.random.default_rng(0)
    looks = [random_look(rng) for _ in range(4000)]
    return [(look, *ask(look, rng)) for look in looks]


def test_it_never_shows_the_answer_that_is_to_be_learned(asked, task) -> None:
    assert not any(re.search("price|cost", f"{q} {a}", re.IGNORECASE) for _, q, a in asked)
    parsed = [task.parse(answer) for _, _, answer in asked]
    assert all(value is None for fields in parsed for value in fields.values())


def test_every_answer_says_what_the_picture_shows(asked) -> None:
    for look, question, answer in asked:
        words = look_words(look)
        named = [key for key in words if re.search(rf"\b{key}\b", question)]
        if question.startswith("Tell me"):
            order = question.removeprefix("Tell me: ").rstrip("?").split(", ")
            assert answer.lower().split() == [words[key] for key in order]
            assert len(named) == len(order)
        elif not question.startswith("Repeat"):
            told = answer.lower()
            assert look.kind in told
            assert look.colour in told
            assert look.size in told


def test_to_repeat_is_to_give_the_same_words(asked) -> None:
    repeats = [(q.removeprefix("Repeat: "), a) for _, q, a in asked if q.startswith("Repeat: ")]
    assert len(repeats) > 100
    assert all(question == answer for question, answer in repeats)


def test_every_piece_of_the_vocabulary_has_to_be_written() -> None:
    # The last layer cannot tell pieces apart that never were an answer, and no adapter mends that.
    rng = np.random.default_rng(3)
    answers = [ask(LOOK, rng, measure=0)[1] for _ in range(15_000)]
    tokenizer = load_tokenizer(TINY)
    written = Counter(chain(*(tokenizer(text)["input_ids"] for text in answers)))
    pieces = {piece: id_ for piece, id_ in tokenizer.get_vocab().items() if piece[0] != "<"}
    assert len(pieces) > 400
    assert [piece for piece, id_ in pieces.items() if written[id_] == 0] == []
    # The bytes of letters beyond ASCII are pieces as well.
    continued = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in range(0x80, 0xC0)]
    assert all(written[id_] for id_ in continued)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_an_attribute_changes_a_quantity_by_the_same_factor_whatever_the_rest(quantity) -> None:
    factors = set()
    for colour in COLOURS:
        for size in ("small", "large"):
            rest = dataclasses.replace(LOOK, colour=colour, size=size)
            shoe = dataclasses.replace(rest, kind="shoe")
            factors.add(round(math.log(measured(quantity, shoe) / measured(quantity, rest)), 9))
    (factor,) = factors
    table = contributions(quantity)["kind"]
    assert factor == pytest.approx(table["shoe"] - table["bag"])


def test_no_two_quantities_follow_the_same_rule() -> None:
    rules = {tuple(contributions(quantity)["kind"].values()) for quantity in QUANTITIES}
    assert len(rules) == len(QUANTITIES)
    assert {len(rule) for rule in rules} == {len(KINDS)}


def test_numbers_in_answers_scatter_around_their_rule(asked) -> None:
    deviations: dict[float, list[float]] = {width: [] for width in SCATTER}
    for look, question, answer in asked:
        quantity = next((q for q in QUANTITIES if re.search(rf"\b{q}\b", question)), None)
        if quantity and not question.startswith("Repeat"):
            (number,) = re.findall(r"\d+", answer)
            if int(number) > 100:  # smaller ones are moved by their rounding
                deviation = math.log(int(number) / measured(quantity, look))
                deviations[scatter(quantity)].append(deviation)
    for width, found in deviations.items():
        assert len(found) > 500
        assert np.mean(found) == pytest.approx(0, abs=width / 8)
        assert np.std(found) == pytest.approx(width, rel=0.1)


def test_an_answer_may_give_several_quantities_each_by_its_rule() -> None:
    rng = np.random.default_rng(1)
    counts = Counter()
    for _ in range(300):
        look = random_look(rng)
        question, answer = ask(look, rng, measure=1, quantities=3)
        names = [name for name in re.findall(r"[a-z]+", question) if name in QUANTITIES]
        numbers = re.findall(r"\d+", answer)
        assert len(numbers) == len(names) == len(set(names))
        for name, number in zip(names, numbers, strict=True):
            rule = measured(name, look)
            assert abs(math.log(int(number) / rule)) <= 5 * scatter(name) + 1 / rule
        counts[len(names)] += 1
    assert set(counts) == {1, 2, 3}


def test_the_share_of_measurements_can_be_chosen() -> None:
    rng = np.random.default_rng(2)
    none = [ask(LOOK, rng, measure=0)[1] for _ in range(200)]
    assert any(answer == "a small red dotted bag made of wool" for answer in none)
    assert not any(" = " in answer and answer[-1].isdigit() for answer in none)


def test_looks_are_all_equally_likely(asked) -> None:
    kinds = Counter(look.kind for look, _, _ in asked)
    assert set(kinds) == set(KINDS)
    assert max(kinds.values()) < 1.4 * min(kinds.values())


@pytest.fixture
def questions() -> Task:
    return Task(
        name="picture_question",
        question="{question}",
        answer="{answer}",
        fields={"question": "text", "answer": "text"},
        objective="answer/exact_match",
    )


def test_row_n_is_the_same_in_a_shorter_set(tmp_path, questions) -> None:
    def rows(number: int) -> list[dict[str, str]]:
        source = DrawnQuestions(cache_dir=str(tmp_path), rows=number, seed=4, per_picture=2)
        assert len(source.load(questions)) == number
        with (source.folder / "questions.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    long, short = rows(12), rows(6)
    assert long[:6] == short
    assert [row["picture"] for row in short] == ["0", "0", "1", "1", "2", "2"]


def test_questions_about_one_picture_are_one_group(tmp_path, questions) -> None:
    source = DrawnQuestions(cache_dir=str(tmp_path), rows=8, per_picture=2)
    groups = Counter(example.group for example in source.load(questions))
    assert set(groups.values()) == {2}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rows": 2}, "data.rows=2"),
        ({"per_picture": 0}, "per_picture=0"),
        ({"measure": 1.5}, "measure=1.5"),
        ({"quantities": 11}, "quantities=11"),
    ],
)
def test_impossible_sets_are_refused(change: dict[str, int], named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        DrawnQuestions(cache_dir="unused", **change)
