"""How figures and settings are written for people."""

import pytest

from phi3v.evaluation.figures import write_settings


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.0012345678901234567", "0.001235"),
        ("1.2345678901234567e-05", "1.235e-05"),
        ("-0.123456", "-0.1235"),
        ("99.99999", "100"),
        *(
            (same, same)
            for same in ("0.002", "1e-3", "2e-3", "0.05", "12.34", "123456", "0.0001234")
        ),
        *(
            (same, same)
            for same in ("", "true", "lora_r16", "[0.12345,1]", "2.13.0.12345", "1.5.x")
        ),
    ],
)
def test_a_long_number_is_shown_with_four_digits_and_nothing_else_is_changed(
    value: str, shown: str
) -> None:
    assert write_settings([value]) == {value: shown}


def test_values_that_differ_are_shown_as_different() -> None:
    assert write_settings(["0.123456", "0.123457", "0.2"]) == {
        "0.123456": "0.123456", "0.123457": "0.123457", "0.2": "0.2",
    }  # fmt: skip
    assert write_settings(["0.12344", "0.12356", "0.12344"]) == {
        "0.12344": "0.1234", "0.12356": "0.1236",
    }  # fmt: skip
    assert len({*write_settings(["0.10000000000000001", "0.1"]).values()}) == 2
