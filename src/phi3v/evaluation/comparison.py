"""Put the fine-tuned model beside everything it must be better than: the content of metrics.json.

summary = compare(task, rows={"train": 2432, "val": 304, "test": 304}, fine_tuned=...,
                  baseline=..., optimum=..., base=..., controls={"blank": ..., "shuffled": ...},
                  intervals=bootstrap(...))
path.write_text(to_json(summary))
console.print(terminal_table(summary))
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from phi3v.evaluation.figures import (
    HEADLINE,
    SYSTEMS,
    kind_of,
    metric_title,
    system_title,
    write_figure,
)
from phi3v.evaluation.verdict import Intervals, Metrics, verdict
from phi3v.task import Task, direction

SCHEMA = 1
_TERMINAL_WIDTH = 80
_FEW_ROWS = 30
_MOST_TITLE = 36  # characters of a run's name on the terminal


def compare(
    task: Task,
    *,
    rows: Mapping[str, int],
    fine_tuned: Metrics,
    baseline: Metrics,
    constant: Metrics | None = None,
    optimum: Metrics | None = None,
    base: Metrics | None = None,
    controls: Mapping[str, Metrics] | None = None,
    intervals: Intervals | None = None,
    subject: str = SYSTEMS["fine_tuned"],
    split: str = "test",
    compared: Mapping[str, Metrics] | None = None,
) -> dict[str, Any]:
    """Collect one evaluation.

    Args:
        task: the declaration that everything was measured by.
        rows: how many examples each split has.
        fine_tuned: the metrics of the model in question, under FieldMetrics' names.
        baseline: those of the usual constant answer.
        constant: those of the constant answer with the least MAPE; None without numbers.
        optimum: those of the best possible answers, as far as they are known.
        base: those of the model before training; None when there was no training.
        controls: those of the model in question on "blank" and "shuffled" pictures.
        intervals: 95 % intervals of `fine_tuned`.
        subject: what the model in question is called in tables ("Base model").
        split: the split that was measured; it begins the names of the figures.
        compared: those of other models on the same examples, by what they are called in tables and
            in the order of their rows.

    Returns:
        What stands in metrics.json: plain values with sorted keys (but `compared`, see there), None
        for what is not a finite number, and nothing that differs between two equal runs.
    """
    systems = {"optimum": optimum, "baseline": baseline, "constant": constant}
    systems |= {"base": base, "fine_tuned": fine_tuned}
    systems |= {name: (controls or {}).get(name) for name in ("blank", "shuffled")}
    present: dict[str, Metrics] = {name: values for name, values in systems.items() if values}
    looks, sentences = verdict(task, present, intervals)
    if 0 < (count := rows.get(split, 0)) < _FEW_ROWS:
        sentences.append(f"All of this is weak evidence: {count} {split} row{'s' * (count > 1)}.")
    summary: dict[str, Any] = _plain(
        {
            "schema": SCHEMA,
            "task": task.name,
            "subject": subject,
            "split": split,
            "rows": rows,
            "objective": {
                "name": task.objective,
                "direction": direction(task.objective),
                "value": fine_tuned[task.objective],
            },
            "looks": looks,
            "verdict": sentences,
            "metrics": {f"{split}/{name}": value for name, value in fine_tuned.items()},
            split: fine_tuned,
            f"{split}_intervals": intervals or {},
            "systems": present,
        }
    )
    if compared:  # in the order in which they were named
        summary["compared"] = {title: _plain(values) for title, values in compared.items()}
    return summary


def to_json(summary: Mapping[str, Any]) -> str:
    """The text of metrics.json: equal summaries give equal bytes."""
    ordered = {key: summary[key] for key in sorted(summary)}
    ordered = {key: one if key == "compared" else _sorted(one) for key, one in ordered.items()}
    return json.dumps(ordered, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value


def terminal_table(summary: Mapping[str, Any]) -> Table:
    """The before/after table, at most 80 columns wide.

    Args:
        summary: what `compare` returned, or metrics.json as it was read.
    """
    rows = summary["rows"].get(summary["split"])
    title = f"{summary['task']}: {summary['split']} split" + (f" of {rows} rows" if rows else "")
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    names = _columns_that_fit(summary)
    for name in names:
        table.add_column("\n".join(_heading(name)), justify="right", no_wrap=True)
    for system in (name for name in SYSTEMS if name in summary["systems"]):
        values = summary["systems"][system]
        cells = [write_figure(name, values.get(name)) for name in names]
        style = "bold" if system == "fine_tuned" else None
        table.add_row(_row_title(system, summary), *cells, style=style)
    for title, values in summary.get("compared", {}).items():
        table.add_row(_short(title), *(write_figure(name, values.get(name)) for name in names))
    return table


def _row_title(system: str, summary: Mapping[str, Any]) -> str:
    title = _short(system_title(system, summary))
    return f"  {title}" if system in ("blank", "shuffled") else title


def _short(title: str) -> str:
    """The end of a run's name, which tells it from others."""
    return title if len(title) <= _MOST_TITLE else f"…{title[1 - _MOST_TITLE :]}"


def _columns_that_fit(summary: Mapping[str, Any]) -> list[str]:
    """The parse rate, the objective, each field's headline, then other metrics while they fit."""
    known = list(summary["systems"]["fine_tuned"])
    headlines = [name for name in known if name.rsplit("/", 1)[-1] in HEADLINE.values()]
    others = [name for name in known if kind_of(name) and name not in headlines]
    wanted = ["parse_rate", summary["objective"]["name"], *headlines, *others]
    compared = summary.get("compared", {})
    titles = [*(_row_title(name, summary) for name in summary["systems"]), *map(_short, compared)]
    rows = [*summary["systems"].values(), *compared.values()]
    free = _TERMINAL_WIDTH - 1 - 3 - max(map(len, titles))
    chosen = []
    for name in dict.fromkeys(wanted):
        figures = [write_figure(name, values.get(name)) for values in rows]
        width = 3 + max(map(len, [*_heading(name), *figures]))
        if width <= free:
            free -= width
            chosen.append(name)
    return sorted(chosen, key=lambda name: (name != "parse_rate", known.index(name)))


def _heading(name: str) -> list[str]:
    """The lines of a column's heading: field and metric, a long field's name cut short."""
    field = name.rpartition("/")[0]
    return [field if len(field) <= 16 else f"{field[:15]}…", metric_title(name)]


def _plain(value: Any) -> Any:
    """Sorted dicts, lists and finite floats, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
