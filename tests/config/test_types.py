"""Whether a value fits a type that is only known as source text."""

import ast

import pytest

from phi3v.config.signatures import read_constructor
from phi3v.config.types import describe, fits, misfit

FITS = [
    ("int", 3, True),
    ("int", 3.0, False),
    ("int", True, False),
    ("float", 3, True),
    ("float", "3", False),
    ("bool", 1, False),
    ("str", "a", True),
    ("str", None, False),
    ("str | None", None, True),
    ("Optional[int]", None, True),
    ("Optional[int]", "a", False),
    ("Union[int, str, None]", 2.5, False),
    ("Union[int, float]", 2.5, True),
    ("list[str]", ["a"], True),
    ("list[str]", ["a", 1], False),
    ("list[str]", "a", False),
    ("Sequence[float]", [0.9, 1], True),
    ("tuple[float, ...]", [0.9, 1], True),
    ("dict[str, dict[str, float]]", {"a": {"b": 1}}, True),
    ("dict[str, dict[str, float]]", {"a": {"b": "c"}}, False),
    ("Literal['raise', 'skip']", "skip", True),
    ("Literal['raise', 'skip']", "stop", False),
    ("str | Path", "a/b", True),
    ("'int | None'", None, True),
    ("'int | None'", "a", False),
    ("Any", object(), True),
    ("SomethingElse[int]", 3, True),
]


@pytest.mark.parametrize(("text", "value", "fit"), FITS)
def test_values_fit_types_as_python_would_have_it(text: str, value: object, fit: bool) -> None:
    annotation = ast.parse(text, mode="eval").body
    assert fits(annotation, "phi3v.optim.adamw", value) is fit
    assert (misfit(annotation, "phi3v.optim.adamw", value) is None) is fit


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("float | None", "number or null"),
        ("Optional[Union[int, float]]", "whole number or number or null"),
        ("list[str]", "a list of text"),
        ("Literal['raise', 'skip']", "raise or skip"),
        ("dict[str, float]", "a mapping"),
        ("'bool'", "true or false"),
    ],
)
def test_types_are_told_in_words(text: str, words: str) -> None:
    assert describe(ast.parse(text, mode="eval").body) == words


def test_the_innermost_value_that_does_not_fit_is_named() -> None:
    annotation = ast.parse("dict[str, list[int]] | None", mode="eval").body
    wrong = misfit(annotation, "phi3v.optim.adamw", {"a": [1], "b": [2, "x"]})
    assert wrong is not None
    assert (wrong.place, wrong.value, describe(wrong.annotation)) == (
        ("b", "1"),
        "x",
        "whole number",
    )


def test_names_for_types_are_followed_to_where_they_are_defined() -> None:
    # Lightning writes `save_dir: _PATH`, which is Union[str, Path] in another module.
    save_dir = read_constructor("lightning.pytorch.loggers.CSVLogger").parameters["save_dir"]
    assert fits(save_dir.annotation, save_dir.module, "a")
    assert not fits(save_dir.annotation, save_dir.module, 3)


def test_of_many_values_the_nearest_are_told_first() -> None:
    precision = read_constructor("lightning.Trainer").parameters["precision"]
    told = describe(precision.annotation, precision.module, "16mixed").split(" or ")
    assert (told[0], told[-1]) == ("16-mixed", "null")
    assert {"32-true", "bf16-mixed", "64"} <= set(told)
    assert len(told) == len(set(told))
