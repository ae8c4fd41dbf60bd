"""How figures, metrics and systems are called and written, alike on the terminal and in the report.

write_figure("full_price/mape", 0.1423)   # "14.2 %"
metric_title("full_price/within_10_percent")   # "within 10 %"
write_settings(["0.0012345678901234567"])      # {"0.0012345678901234567": "0.001235"}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from phi3v.task import METRICS

#: The rows of the comparison, in the order in which they are read.
SYSTEMS: dict[str, str] = {
    "optimum": "Best possible",
    "baseline": "Median / majority",
    "constant": "Best constant",
    "base": "Before training",
    "fine_tuned": "Fine-tuned",
    "blank": "blank picture",
    "shuffled": "shuffled picture",
}

#: Of each kind of field the one metric to look at first.
HEADLINE: dict[str, str] = {"text": "token_f1", "label": "accuracy", "number": "mape"}

_TITLES = {
    "token_f1": "token F1",
    "macro_f1": "macro F1",
    "mae": "MAE",
    "mape": "MAPE",
    "median_ape": "median APE",
    "within_10_percent": "within 10 %",
}
_IN_UNITS = ("mae", "loss")
_DIGITS = 4


def metric_title(name: str) -> str:
    """A metric's name for people, without split and field."""
    last = name.rsplit("/", 1)[-1]
    return _TITLES.get(last, last.replace("_", " "))


def kind_of(metric: str) -> str:
    """The kind of field that a metric belongs to, "" for parse rates and losses."""
    last = metric.rsplit("/", 1)[-1]
    return next((kind for kind, names in METRICS.items() if last in names), "")


def system_title(system: str, summary: Mapping[str, Any]) -> str:
    """A system's name for people; what was measured may carry a name of its own."""
    return str(summary["subject"]) if system == "fine_tuned" else SYSTEMS[system]


def write_figure(name: str, value: float | None) -> str:
    """A metric's value for people: shares and relative errors in per cent, the rest in units."""
    if value is None or not math.isfinite(value):
        return "—"
    if name.rsplit("/", 1)[-1] in _IN_UNITS:
        return write_number(value)
    percent = 100 * value
    return f"{percent:.1f} %" if percent < 1000 else f"{write_number(percent)} %"


def write_settings(values: Iterable[str]) -> dict[str, str]:
    """Values of one override as tables show them, by what they are.

    Long numbers, as a search draws them, have four digits there; more where those would make two
    values the same. What is short, or no number, stays as it was written.
    """
    known = list(dict.fromkeys(values))
    shown: dict[str, str] = {}
    for digits in range(_DIGITS, 18):  # of which a float has 17
        shown = {value: _shortened(value, digits) for value in known}
        if len({*shown.values()}) == len(known):
            break
    return shown


def _shortened(value: str, digits: int) -> str:
    mantissa = value.lower().partition("e")[0]
    if "." not in mantissa or sum(map(str.isdigit, mantissa.lstrip("+-0."))) <= digits:
        return value
    try:
        return f"{float(value):.{digits}g}"
    except ValueError:  # such as a version
        return value


def write_number(value: float) -> str:
    """A number with about four digits: 0.0123, 12.34, 1,234, 1.2e+09."""
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-3:
        return f"{value:.2g}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"
