"""The tables of the report: all systems by all metrics, and which label was taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from phi3v.evaluation.figures import SYSTEMS, metric_title, system_title, write_figure
from phi3v.task import Task, Value, direction, normal_label

_MOST_CLASSES = 10
# Buckets beside the labels; no normal label has a space at its end.
_OTHER, _UNPARSED = "other ", "not parsed "


def comparison_table(summary: Mapping[str, Any], task: Task) -> str:
    """Systems down, metrics across, with the intervals of the model in question.

    The objective comes first, so that a narrow screen shows it; then the others, field by field.
    """
    groups = _groups(task)
    names = [name for _, members in groups for name in members]
    edges = {members[0] for _, members in groups[1:]}
    top = "".join(
        f'<th class="group{" edge" if members[0] in edges else ""}" colspan="{len(members)}">'
        f"{escape(field)}</th>"
        for field, members in groups
    )
    arrows = {"min": "↓", "max": "↑"}
    heads = "".join(
        f"<th{_edge(name, edges)}>{metric_title(name)}&nbsp;{arrows[direction(name)]}</th>"
        for name in names
    )

    def row(style: str, title: str, cells: Sequence[str]) -> str:
        pairs = zip(names, cells, strict=True)
        written = "".join(f"<td{_edge(name, edges)}>{cell}</td>" for name, cell in pairs)
        return f'<tr class="{style}"><th>{escape(title)}</th>{written}</tr>'

    rows = []
    for system in (name for name in SYSTEMS if name in summary["systems"]):
        style = {"fine_tuned": "own", "blank": "control", "shuffled": "control"}.get(system, "")
        rows.append(row(style, _title(system, summary), _cells(system, summary, names)))
        if system == "fine_tuned":
            rows += [
                row("", title, [write_figure(name, values.get(name)) for name in names])
                for title, values in summary.get("compared", {}).items()
            ]
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{top}</tr><tr><th></th>{heads}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _groups(task: Task) -> list[tuple[str, list[str]]]:
    """(field, its metrics) from left to right; the objective is a group of its own."""
    fields: dict[str, list[str]] = {}
    for name in task.metric_names:
        if name != task.objective:
            fields.setdefault(name.rpartition("/")[0], []).append(name)
    return [(task.objective.rpartition("/")[0], [task.objective]), *fields.items()]


def _title(system: str, summary: Mapping[str, Any]) -> str:
    """What a row is called; beside other runs a control says whose it is."""
    title = system_title(system, summary)
    if system in ("blank", "shuffled") and summary.get("compared"):
        return f"{title} ({summary['subject']})"
    return title


def _cells(system: str, summary: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    values = summary["systems"][system]
    intervals = summary[f"{summary['split']}_intervals"] if system == "fine_tuned" else {}
    cells = []
    for name in names:
        between = ""
        if intervals.get(name):
            low, high = (write_figure(name, end).removesuffix(" %") for end in intervals[name])
            between = f"<small>{low}–{high}</small>"  # noqa: RUF001
        cells.append(f"{write_figure(name, values.get(name))}{between}")
    return cells


def _edge(name: str, edges: Collection[str]) -> str:
    """A line to the left of the first metric of a group."""
    return ' class="edge"' if name in edges else ""


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
