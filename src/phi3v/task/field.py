"""The typed fields of an answer: what kind of value each is, how it is written and read.

`Field("full_price", "number", ".2f").write(470.0)` is "470.00"; `.read("$470")` is 470.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from phi3v.errors import UserError

Value = str | float

#: What is measured of each kind of field; the metric room computes exactly these.
METRICS: dict[str, tuple[str, ...]] = {
    "text": ("exact_match", "token_f1", "edit_similarity"),
    "label": ("accuracy", "macro_f1"),
    "number": ("mae", "mape", "median_ape", "within_10_percent"),
}
_SIGN = "[$¢-¥֏؋฿₠-⃀﷼\uff04￠￡￥￦]"  # the currency signs of Unicode
_CODE = "(?:usd|eur|gbp|jpy|cny|chf|inr|cad|aud|sek|nok|dkk|pln)"
_NUMBER = re.compile(
    rf"(?:{_CODE}\s*)?(?:{_SIGN}\s*)?"
    r"(?P<number>[+-]?(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
    rf"(?:\s*{_SIGN})?(?:\s*{_CODE})?",
    re.IGNORECASE,
)


def nearest(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """A hint for an error message: the nearest known name, or all of them."""
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known) or 'nothing'}"


def read_number(text: str) -> float | None:
    """Read one number, with or without thousands commas and one currency sign or code.

    "1,290.00", "$470" and "470 €" are numbers; "n/a", "", "12,5", "0,125" and "470 480" are not.
    """
    found = _NUMBER.fullmatch(text.strip())
    if not found:
        return None
    number = float(found["number"].replace(",", ""))
    return number if math.isfinite(number) else None


def normal_label(text: str) -> str:
    """Return the form in which labels are compared: case and whitespace do not matter."""
    return " ".join(text.split()).casefold()


@dataclass(frozen=True)
class Field:
    """One field of an answer.

    Attributes:
        name: the column it comes from.
        kind: "text", "label" or "number".
        format: a Python format spec for numbers (".2f"). Empty: a string is written as it was
            read, a whole number without decimals, any other number in its shortest form.

    Raises:
        UserError: unknown kind, or a format that does not format a number.
    """

    name: str
    kind: str
    format: str = ""

    def __post_init__(self) -> None:
        if self.kind not in METRICS:
            hint = nearest(str(self.kind), METRICS)
            raise UserError(f"task field {self.name!r}: there is no kind {self.kind!r}; {hint}")
        if not self.format:
            return
        if self.kind != "number":
            raise UserError(f"task field {self.name!r}: only a number field can have a format")
        try:
            again = read_number(format(1234.5, self.format))
        except (ValueError, TypeError):
            again = None
        if again is None:
            raise UserError(
                f"task field {self.name!r}: the format {self.format!r} does not write a number"
                " that can be read again; use one like '.2f'"
            )

    def write(self, value: Value) -> str:
        """The value as it stands in an answer."""
        if self.kind != "number":
            return str(value)
        if isinstance(value, str):
            if not self.format:
                return value.strip()
            number = read_number(value)
            if number is None:
                raise UserError(f"task field {self.name!r}: {value!r} is not a number")
            return format(number, self.format)
        if self.format:
            return format(float(value), self.format)
        whole = float(value).is_integer() and abs(value) < 1e15
        return str(int(value)) if whole else str(float(value))

    def read(self, text: str) -> Value | None:
        """The value that a piece of an answer states, None if it states none."""
        text = text.strip()
        if self.kind == "number":
            return read_number(text)
        return text or None
