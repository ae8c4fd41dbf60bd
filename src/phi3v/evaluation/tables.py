"""The tables of the report: all systems by all metrics, and which label was taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from phi3v.evaluation.figures import SYSTEMS, metric_title, system_title, write_figure
from phi3v.task import Task, Value, direction, normal_label

_MOST_CLASSES = 10
# Buckets beside the labels; no normal label has a space at its end.
_OTHER, _UNPARSED = "other ", "not parsed "


def comparison_table(summary: Mapping[str, Any], task: Task) -> str:
    """Systems down, metrics across, with the intervals of the model in question."""
    names = list(task.metric_names)
    groups = ["", *task.field_names]
    own = {group: [name for name in names if name.rpartition("/")[0] == group] for group in groups}
    top = "".join(
        f'<th class="group{" edge" if group else ""}" colspan="{len(own[group])}">'
        f"{escape(group)}</th>"
        for group in groups
    )
    arrows = {"min": "↓", "max": "↑"}
    heads = "".join(
        f"<th{_edge(name, names)}>{metric_title(name)}&nbsp;{arrows[direction(name)]}</th>"
        for name in names
    )
    rows = [
        _system_row(system, summary, names) for system in SYSTEMS if system in summary["systems"]
    ]
    rows += [
        _row("", title, [write_figure(name, values.get(name)) for name in names], names)
        for title, values in summary.get("compared", {}).items()
    ]
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{top}</tr><tr><th></th>{heads}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _system_row(system: str, summary: Mapping[str, Any], names: Sequence[str]) -> str:
    values = summary["systems"][system]
    intervals = summary[f"{summary['split']}_intervals"] if system == "fine_tuned" else {}
    cells = []
    for name in names:
        between = ""
        if intervals.get(name):
            low, high = (write_figure(name, end).removesuffix(" %") for end in intervals[name])
            between = f"<small>{low}–{high}</small>"  # noqa: RUF001
        cells.append(f"{write_figure(name, values.get(name))}{between}")
    style = {"fine_tuned": "own", "blank": "control", "shuffled": "control"}.get(system, "")
    return _row(style, system_title(system, summary), cells, names)


def _row(style: str, title: str, cells: Sequence[str], names: Sequence[str]) -> str:
    pairs = zip(names, cells, strict=True)
    written = "".join(f"<td{_edge(name, names)}>{cell}</td>" for name, cell in pairs)
    return f'<tr class="{style}"><th>{escape(title)}</th>{written}</tr>'


def _edge(name: str, names: Sequence[str]) -> str:
    """A line to the left of the first metric of every field."""
    field = name.rpartition("/")[0]
    first = next(other for other in names if other.rpartition("/")[0] == field)
    return ' class="edge"' if field and first == name else ""


def confusion_table(truths: Sequence[Value], predicted: Sequence[Value | None]) -> str:
    """Truths down, predictions across, counts in the cells, for the most frequent labels.

    Args:
        truths: the true labels.
        predicted: the predicted ones in the same order; None where none could be read.
    """
    spelling = {normal_label(str(truth)): str(truth) for truth in reversed(truths)}
    frequent = Counter(normal_label(str(truth)) for truth in truths)
    kept = sorted(frequent, key=lambda label: (-frequent[label], label))[:_MOST_CLASSES]
    pairs = Counter(
        (_bucket(truth, kept), _bucket(answer, kept))
        for truth, answer in zip(truths, predicted, strict=True)
    )
    rows = [*kept, *([_OTHER] if len(frequent) > len(kept) else [])]
    columns = [*kept, *(b for b in (_OTHER, _UNPARSED) if any(p == b for _, p in pairs))]
    numbers = {label: str(place) for place, label in enumerate(kept, start=1)}
    heads = "".join(_label_heading(label, numbers, spelling) for label in columns)
    body = "".join(_confusion_row(row, columns, pairs, numbers, spelling) for row in rows)
    return (
        '<div class="scroll snug"><table class="confusion"><thead><tr><th class="group">'
        f"prediction →<br>truth ↓</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _label_heading(label: str, numbers: Mapping[str, str], spelling: Mapping[str, str]) -> str:
    name = label.strip()
    return f'<th title="{escape(spelling.get(label, name))}">{numbers.get(label, name)}</th>'


def _bucket(label: Value | None, kept: Sequence[str]) -> str:
    if label is None:
        return _UNPARSED
    normal = normal_label(str(label))
    return normal if normal in kept else _OTHER


def _confusion_row(
    row: str,
    columns: Sequence[str],
    pairs: Mapping[tuple[str, str], int],
    numbers: Mapping[str, str],
    spelling: Mapping[str, str],
) -> str:
    total = sum(pairs.get((row, column), 0) for column in columns)
    cells = []
    for column in columns:
        count = pairs.get((row, column), 0)
        # Among the labels that are summed up as "other", equal ones and different ones meet.
        style = "right" if row == column != _OTHER else "wrong"
        share = 0 if row == column == _OTHER else count / max(total, 1)
        cells.append(f'<td class="{style}" style="--share:{share:.3f}">{count or ""}</td>')
    name = (
        f"{numbers[row]}&nbsp;&nbsp;{escape(spelling[row])}" if row in numbers else "other labels"
    )
    return f'<tr><th class="row-name">{name}</th>{"".join(cells)}</tr>'
