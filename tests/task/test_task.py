"""Tasks: writing, the parser of generated answers, and the checks of rows and declarations."""

import pickle
import subprocess
import sys

import pytest

from phi3v.errors import UserError
from phi3v.task import Task

FIELDS = {"title": "text", "category3_code": "label", "full_price": "number"}
ANSWER = "Product: {title}, Category: {category3_code}, Full Price: {full_price}"
ROW = {"title": "Shirt, blue", "category3_code": "Tops", "full_price": 1290.5}


def make_task(question="What is shown in this image?", answer=ANSWER, fields=None, objective=None):
    return Task("products", question, answer, fields or FIELDS, objective or "full_price/mape")


def test_the_answer_is_written_from_the_row():
    task = make_task()
    assert task.write_question(ROW) == "What is shown in this image?"
    answer = "Product: Shirt, blue, Category: Tops, Full Price: 1290.5"
    assert task.write_answer(ROW) == answer


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        {"title": "A {brace} & 100% (wool)", "category3_code": "T-shirts", "full_price": 3.0},
        {"title": "Category: of its own", "category3_code": "a, b", "full_price": 0.01},
        {"title": "línea\nnueva", "category3_code": "日本", "full_price": 1e9},
    ],
)
def test_an_answer_is_read_again_as_it_was_written(row):
    task = make_task()
    assert task.parse(task.write_answer(row)) == row


def test_the_parser_tolerates_spaces_case_separators_and_currency():
    text = "\n product:  Shirt, blue ,CATEGORY: Tops , full  price: $1,290.50 "
    assert make_task().parse(text) == ROW


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (None, None, None)),
        ("A nice blue shirt for 12", (None, None, None)),
        ("Product: A, Category: B", ("A", None, None)),
        ("Product: A, Category: B, Full Price: ", ("A", "B", None)),
        ("Product: A, Category: B, Full Price: 470 or 480", ("A", "B", None)),
        ("Product: A, Category: B, Full Price: 4, Full Price: 5", ("A", "B", None)),
        ("Product: A, Category: B, Full Price: 4. I hope this helps!", ("A", "B", None)),
        ("Product: A, Full Price: 4", (None, None, 4.0)),
        ("Sure! Product: A, Category: B, Full Price: 4", (None, "B", 4.0)),
        ("Product: , Category: B, Full Price: 4", (None, "B", 4.0)),
        ("Full Price: 4, Category: B, Product: A", (None, None, None)),
    ],
)
def test_what_is_not_stated_in_its_place_is_none(text, expected):
    assert tuple(make_task().parse(text).values()) == expected


def test_a_word_between_fields_is_not_found_inside_another_word():
    task = Task("t", "?", "{what} by {who}", {"what": "text", "who": "text"}, "who/token_f1")
    assert task.parse("Derby shoes by Nike") == {"what": "Derby shoes", "who": "Nike"}


def test_a_closing_literal_must_close_the_answer():
    task = Task("t", "?", "It costs {p} dollars.", {"p": "number"}, "p/mae")
    assert task.parse("it costs 5 dollars. ") == {"p": 5.0}
    assert task.parse("it costs 5") == {"p": None}
    assert task.parse("it costs 5 dollars. Or 6 dollars.") == {"p": None}


def test_a_caption_takes_the_whole_text():
    task = Task("captions", "Describe.", "{caption}", {"caption": "text"}, "caption/token_f1")
    assert task.parse(" A dog,\nrunning. ") == {"caption": "A dog,\nrunning."}
    assert task.parse(" \n") == {"caption": None}


def test_the_columns_are_those_of_question_and_answer():
    task = make_task(question="What does {brand} show? {{braces}}")
    assert task.columns == ("brand", "title", "category3_code", "full_price")
    assert task.field_names == ("title", "category3_code", "full_price")
    assert task.write_question({"brand": "Acme"}) == "What does Acme show? {braces}"


def test_the_metric_names_follow_the_kinds():
    names = make_task().metric_names
    assert names[0] == "parse_rate"
    assert {"title/exact_match", "category3_code/macro_f1", "full_price/median_ape"} < set(names)
    assert len(names) == len(set(names)) == 13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "Price: {ful_price}"}, r"\{ful_price\} is not declared.*'full_price'"),
        ({"answer": "{title}{full_price}"}, "between {title} and {full_price}"),
        ({"answer": "{title} \n{full_price}"}, "between {title} and {full_price}"),
        ({"answer": "{title}, {title}"}, "stands in it twice"),
        ({"answer": "{title"}, "expected '}'"),
        ({"answer": "{full_price:.2f}"}, "plain name of a column"),
        ({"answer": "{}"}, "plain name of a column"),
        ({"answer": "nothing"}, "no {field} to learn"),
        ({"fields": {**FIELDS, "title": "txt"}}, "'title'.*'txt'; did you mean 'text'"),
        ({"fields": {**FIELDS, "title": {"knd": "text"}}}, "'title': say its kind"),
        ({"fields": {**FIELDS, "title": {"kind": "text", "fmt": "x"}}}, "'fmt'"),
        ({"objective": "full_price/mapee"}, "did you mean 'full_price/mape'"),
        ({"objective": "title/accuracy"}, "no such metric"),
    ],
)
def test_a_wrong_declaration_is_refused_with_the_nearest_name(change, message):
    with pytest.raises(UserError, match=message) as caught:
        make_task(**change)
    assert "\n" not in str(caught.value).replace("{title} \n", "")


def test_check_values_makes_numbers_and_strips_texts():
    row = {"title": " Scarf ", "category3_code": "x", "full_price": " $1,290.00 ", "other": "y"}
    assert make_task().check_values(row, "f.csv row 2") == {
        "title": "Scarf",
        "category3_code": "x",
        "full_price": 1290.0,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"full_price": "n/a"}, "f.csv row 7: full_price 'n/a' is not a number above zero"),
        ({"full_price": ""}, "f.csv row 7: full_price is empty"),
        ({"full_price": "0"}, "f.csv row 7: full_price '0' is not a number above zero"),
        ({"full_price": -3.0}, "f.csv row 7: full_price -3.0 is not a number above zero"),
        ({"full_price": float("nan")}, "f.csv row 7: full_price nan"),
        ({"category3_code": "  "}, "f.csv row 7: category3_code is empty"),
        ({"title": "A, Category: B"}, "f.csv row 7: title 'A, Category: B' contains words"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(change, message):
    with pytest.raises(UserError, match=message):
        make_task().check_values({**ROW, **change}, "f.csv row 7")


@pytest.mark.parametrize(
    ("answer", "declared", "named"),
    [
        ("Price: {full_price}. {rating}", "number", "full_price '12.5'"),
        ("{full_price}, {rating}", {"kind": "number", "format": ",.0f"}, "full_price '1,200'"),
    ],
)
def test_a_number_that_the_template_takes_apart_is_refused(answer, declared, named):
    fields = {"full_price": declared, "rating": "number"}
    task = Task("rated", "What?", answer, fields, "rating/mape")
    row = {"full_price": 12.5 if named.endswith("'12.5'") else 1200.0, "rating": 4.0}
    with pytest.raises(UserError, match=f"f.csv row 7: {named} cannot be read again"):
        task.check_values(row, "f.csv row 7")
    assert task.check_values({"full_price": 7.0, "rating": 4.0}, "f.csv row 8")


def test_a_number_may_be_rounded_by_its_format():
    fields = {"full_price": {"kind": "number", "format": ".1f"}}
    task = Task("priced", "What?", "Price: {full_price}", fields, "full_price/mape")
    assert task.check_values({"full_price": 12.345}, "f.csv row 7") == {"full_price": 12.345}


def test_a_missing_column_is_named_with_the_nearest():
    row = {"titel": "a", "category3_code": "x", "full_price": 1.0}
    with pytest.raises(UserError, match=r"f.csv row 1: there is no 'title'.*mean 'titel'"):
        make_task().check_values(row, "f.csv row 1")


def test_a_task_travels_to_worker_processes():
    task = pickle.loads(pickle.dumps(make_task()))
    assert task.parse(task.write_answer(ROW)) == ROW


def test_importing_the_task_room_does_not_load_torch():
    code = "import sys, phi3v.task; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("declared", [{}, {"question": "text"}])
def test_an_empty_question_column_is_refused_with_its_row(declared):
    fields = {"answer": "text"} | declared
    task = Task("asked", "{question}", "{answer}", fields, "answer/exact_match")
    with pytest.raises(UserError, match="row 3: question is empty"):
        task.check_values({"question": " ", "answer": "yes"}, "row 3")
