"""Fields: what is a number, how values are written, what is refused."""

import pytest

from phi3v.errors import UserError
from phi3v.task import Field, normal_label, read_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("470", 470.0),
        (" 109.99\n", 109.99),
        ("1,290.00", 1290.0),
        ("12,345,678", 12345678.0),
        ("$470", 470.0),
        ("470 €", 470.0),
        ("USD 470", 470.0),
        ("$ 1,290.50 usd", 1290.5),
        ("\uff04470", 470.0),
        ("-3.5", -3.5),
        ("1e3", 1000.0),
    ],
)
def test_a_number_may_carry_thousands_commas_and_a_currency(text, number):
    assert read_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "n/a", "nan", "inf", "1e999", "470 480", "$470 $480", "470-480", "12,5", "1,2345"),
        *("0,125", "00,125"),
        *("4 7 0", "470 dollars", "about 470", "470.", "١٢", "0x10", "1_000", "€", "$$5"),
    ],
)
def test_anything_but_one_number_is_none(text):
    assert read_number(text) is None


def test_a_label_ignores_case_and_the_width_of_spaces():
    assert normal_label("  Women \n Shoes ") == normal_label("women shoes") == "women shoes"


def test_a_number_is_written_as_read_or_in_its_shortest_form_or_by_its_format():
    plain = Field("price", "number")
    assert [plain.write(v) for v in ("470.00", 470.0, 109.99, 0.1 + 0.2)] == [
        "470.00",
        "470",
        "109.99",
        "0.30000000000000004",
    ]
    money = Field("price", "number", ",.2f")
    assert [money.write(v) for v in ("$1290", 470.0)] == ["1,290.00", "470.00"]
    with pytest.raises(UserError, match="'n/a' is not a number"):
        money.write("n/a")


def test_the_shortest_form_of_any_float_is_read_again_exactly():
    field = Field("x", "number")
    for value in (1e-7, 1 / 3, 123456789.125, 1e15, 9.99e22, 5e-324):
        assert field.read(field.write(value)) == value


def test_an_empty_piece_states_nothing():
    assert Field("t", "text").read("  ") is None
    assert Field("l", "label").read("") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("t", "lable"), "did you mean 'label'"),
        (("t", "text", ".2f"), "only a number field"),
        (("t", "number", ".2q"), "'.2q' does not write a number"),
        (("t", "number", "d"), "'d' does not write a number"),
        (("t", "number", ".1%"), "does not write a number"),
    ],
)
def test_a_wrong_declaration_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Field(*arguments)
