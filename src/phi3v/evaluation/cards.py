"""The picture grid of the report: what the model saw, what it answered, and what was true.

Pictures become small JPEGs inside the page, so that the report is one file.
"""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from phi3v.data import open_picture
from phi3v.errors import UserError
from phi3v.evaluation.figures import write_number
from phi3v.metric.edits import edit_similarity
from phi3v.task import Task, Value, normal_label

Row = Mapping[str, Any]

SAMPLED, WORST = 24, 12
_SIDE = 440  # pixels, twice what a card shows, for dense screens
_MOST_PICTURES = 4
_MARKS = {"right": "✓", "near": "≈", "wrong": "✗"}


def sample(predictions: Sequence[Row], count: int = SAMPLED) -> list[Row]:
    """A fixed draw of rows, in their own order; the same rows give the same sample."""
    chosen = random.Random(0).sample(range(len(predictions)), min(count, len(predictions)))
    return [predictions[index] for index in sorted(chosen)]


def worst(predictions: Sequence[Row], task: Task, count: int = WORST) -> list[Row]:
    """The rows with the largest errors, the largest first; rows without any are left out."""
    errors = {index: row_error(row, task) for index, row in enumerate(predictions)}
    order = sorted(errors, key=lambda index: (-errors[index], index))
    return [predictions[index] for index in order[:count] if errors[index] > 0]


def row_error(row: Row, task: Task) -> float:
    """How wrong a row is, summed over its fields.

    A number counts by how many times it is too large or too small (a factor of e is 1), a label 1
    if wrong, a text by the share of edits; what was not parsed counts 3.
    """
    error = 0.0
    for name in task.field_names:
        truth, predicted = row["truth"][name], row["parsed"].get(name)
        if predicted is None:
            error += 3
        elif task.fields[name].kind == "number":
            error += abs(math.log(predicted / truth)) if predicted > 0 else 3
        elif normal_label(str(predicted)) != normal_label(str(truth)):
            is_label = task.fields[name].kind == "label"
            error += 1 if is_label else 1 - edit_similarity(str(predicted), str(truth))
    return error


def card(row: Row, task: Task) -> str:
    """One example: its pictures, and truth and prediction of every field."""
    paths = [row["picture"]] if isinstance(row["picture"], str) else list(row["picture"])
    pictures = [_picture(Path(path), str(row["id"])) for path in paths[:_MOST_PICTURES]]
    fields = [
        _field(name, task.fields[name].kind, row["truth"][name], row["parsed"].get(name))
        for name in task.field_names
    ]
    raw = ""
    if any(row["parsed"].get(name) is None for name in task.field_names):
        generated = escape(str(row["prediction"])) or "nothing"
        raw = f'<div class="raw soft">As generated: {generated}</div>'
    return (
        f'<article class="picture"><div class="strip">{"".join(pictures)}</div>'
        f'<div class="answer"><div class="id">{escape(str(row["id"]))}</div>'
        f"<dl>{''.join(fields)}</dl>{raw}</div></article>"
    )


def _picture(path: Path, origin: str) -> str:
    """A thumbnail as a data URI, or the reason why there is none."""
    try:
        image = open_picture(path, origin)
    except UserError as error:
        return f"<span>{escape(str(error))}</span>"
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=80, optimize=True)
    data = base64.b64encode(stored.getvalue()).decode()
    return f'<img alt="{escape(path.name)}" loading="lazy" src="data:image/jpeg;base64,{data}">'


def _field(name: str, kind: str, truth: Value, predicted: Value | None) -> str:
    """One field: the prediction with its mark, and the truth below it where they differ."""
    judged, remark = _judge(kind, truth, predicted)
    shown = "not parsed" if predicted is None else _write(predicted)
    lines = f'<dd class="{judged}"><span class="mark">{_MARKS[judged]}</span> {escape(shown)}'
    lines += f' <span class="soft">{escape(remark)}</span></dd>' if remark else "</dd>"
    if predicted is None or _write(predicted) != _write(truth):
        lines += f'<dd class="truth">truth: {escape(_write(truth))}</dd>'
    return f"<dt>{escape(name)}</dt>{lines}"


def _judge(kind: str, truth: Value, predicted: Value | None) -> tuple[str, str]:
    """Whether a prediction counts as right, wrong or (a text) near, and how far off it is."""
    if predicted is None:
        return "wrong", ""
    if kind == "number":
        off = (float(predicted) - float(truth)) / float(truth)
        return "right" if abs(off) <= 0.1 + 1e-9 else "wrong", _deviation(off)
    if normal_label(str(predicted)) == normal_label(str(truth)):
        return "right", ""
    if kind == "label":
        return "wrong", ""
    alike = edit_similarity(str(predicted), str(truth))
    return "near" if alike >= 0.5 else "wrong", f"{100 * alike:.0f}\u00a0% alike"


def _deviation(off: float) -> str:
    """A number's relative error with its sign."""
    if abs(off) < 0.005:
        return "" if off == 0 else "under 1\u00a0% off"
    return f"{100 * off:+.0f}\u00a0%" if off < 10 else f"{write_number(off + 1)} times"


def _write(value: Value) -> str:
    """A value for people: whole numbers without decimals, others with six digits."""
    if isinstance(value, str):
        return value
    if abs(value) >= 1e12:
        return write_number(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"
