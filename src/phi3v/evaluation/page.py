"""What all pages have in common: the frame around their sections, and curves out of a history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from phi3v.evaluation.figures import kind_of, write_number
from phi3v.evaluation.style import CSS


def page(title: str, sections: Sequence[str]) -> str:
    """A self-contained page: nothing is loaded from anywhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def points(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """The finite values of one column by step; of a step that comes twice the last."""
    found = {}
    for row in history:
        step, value = _as_float(row.get("step")), _as_float(row.get(name))
        if step is not None and value is not None:
            found[step] = value
    return sorted(found.items())


def _as_float(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def tick(name: str, value: float) -> str:
    """An axis label: per cent without needless decimals, other numbers as they are."""
    if not (kind_of(name) or name.endswith("parse_rate")) or name.endswith("/mae"):
        return write_number(value)
    return f"{round(100 * value, 6):.4g} %"
