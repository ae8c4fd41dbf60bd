"""report.html: one self-contained page that shows a person what a run did.

    write_report(folder / "report.html", title="lora_r16", summary=summary, history=rows,
                 predictions=predictions, task=task, config_yaml=text, environment=facts,
                 verdict=summary["verdict"])

Nothing is loaded from anywhere: style, charts and pictures are inside the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from phi3v.evaluation.cards import card, sample, worst
from phi3v.evaluation.charts import Series, line_chart, scatter_chart
from phi3v.evaluation.figures import HEADLINE, kind_of, metric_title, write_figure
from phi3v.evaluation.page import page, points, tick
from phi3v.evaluation.tables import comparison_table, confusion_table
from phi3v.files import write_whole
from phi3v.task import Task

_MOST_FACTS = 2000  # characters of one environment value


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, Any],
    history: Sequence[Mapping[str, float | int | str]],
    predictions: Sequence[Mapping[str, Any]],
    task: Task,
    config_yaml: str,
    environment: Mapping[str, Any],
    verdict: Sequence[str],
) -> None:
    """Write the report of one evaluation.

    Args:
        path: where to; its folder exists.
        title: of the page, usually the experiment's name.
        summary: what `compare` returned, or metrics.json as it was read.
        history: the rows of metrics.csv; cells may be empty; no rows where nothing was trained.
        predictions: the rows of predictions.jsonl: id, picture (a path, or a list of them),
            question, answer, prediction, truth by field, parsed by field (None: not read).
        task: the declaration.
        config_yaml: the resolved configuration.
        environment: versions, hardware, seed; any nesting.
        verdict: the sentences of the verdict.

    Raises:
        UserError: When it cannot be written, as on a full disk.
    """
    sections = [
        _head(title, summary, verdict),
        _comparison(summary, task),
        _curves(history, summary["objective"]["name"]),
        _fields(predictions, task),
        _pictures(predictions, task),
        _facts(summary, config_yaml, environment),
    ]
    write_whole(path, page(title, sections))


def _head(title: str, summary: Mapping[str, Any], verdict: Sequence[str]) -> str:
    """Title, verdict and the figures to look at first."""
    split = summary["split"]
    rows = summary["rows"].get(split, 0)
    about = f"{escape(summary['task'])}, {escape(split)} split of {rows:,} row{'s' * (rows != 1)}"
    sentences = "".join(f"<p>{_prose(sentence)}</p>" for sentence in verdict)
    looks = " looks" if summary["looks"] else ""
    tested = summary["systems"]["fine_tuned"]
    last = [name for name in tested if name.rsplit("/", 1)[-1] in HEADLINE.values()]
    names = dict.fromkeys(["parse_rate", summary["objective"]["name"], *last])
    tiles = "".join(_tile(name, summary) for name in list(names)[:5])
    return (
        f'<header><div class="soft">{about}</div><h1>{escape(title)}</h1>{_alone(summary)}'
        f'<div class="verdict{looks}">{sentences}</div><div class="tiles">{tiles}</div></header>'
    )


def _alone(summary: Mapping[str, Any]) -> str:
    """Of a comparison, whose are the parts of the page that show one model."""
    others = " and ".join(f"<b>{escape(name)}</b>" for name in summary.get("compared", {}))
    if not others:
        return ""
    return (
        f"<p class='note'>Compared with {others} in the table. Verdict, tiles, training curves, "
        f"pictures and scatter are of <b>{escape(summary['subject'])}</b> alone.</p>"
    )


def _tile(name: str, summary: Mapping[str, Any]) -> str:
    """One figure with its baseline."""
    called = " ".join(filter(None, (name.rpartition("/")[0], metric_title(name))))
    systems = summary["systems"]
    beside = ""
    if kind_of(name):
        beside = f"<br>baseline {_prose(write_figure(name, systems['baseline'].get(name)))}"
        best = systems.get("optimum", {}).get(name)
        beside += f"<br>best possible {_prose(write_figure(name, best))}" if best else ""
    figure = write_figure(name, systems["fine_tuned"][name])
    return f'<div class="tile"><b>{figure}</b>{escape(called)}{beside}</div>'


def _prose(text: str) -> str:
    """Text in which a figure and its per cent sign stay on one line."""
    return escape(text).replace(" %", "&nbsp;%")


def _comparison(summary: Mapping[str, Any], task: Task) -> str:
    intervals = (
        " Below the figures of the model in question stand their 95 % intervals."
        if summary[f"{summary['split']}_intervals"]
        else ""
    )
    return (
        f"<h2>Comparison</h2><p class='note'>↑ more is better, ↓ less is better. Every row counts:"
        f" a number that could not be read scores as the median of the training split.{intervals}"
        f"</p>{comparison_table(summary, task)}"
    )


def _curves(history: Sequence[Mapping[str, Any]], objective: str) -> str:
    """Losses, the leading validation metrics with the objective first, and learning rates."""
    names = dict.fromkeys(name for row in history for name in row if name not in ("step", "epoch"))
    lines = {name: points(history, name) for name in names}
    lines = {name: line for name, line in lines.items() if line}
    if not lines:
        return "<h2>Training</h2><p class='note'>No history: nothing was trained.</p>"
    losses = [name for name in lines if name.rsplit("/", 1)[-1] == "loss"]
    rates = [name for name in lines if name.startswith("lr")]
    shown = [
        name for name in lines if name.rsplit("/", 1)[-1] in ("parse_rate", *HEADLINE.values())
    ]
    shown = [name for name in shown if name.count("/") != 2 or not name.endswith("parse_rate")]
    chosen_by = [name for name in lines if name == f"val/{objective}"]
    shown = list(dict.fromkeys([*chosen_by, *shown]))
    charts = [_chart("loss", losses, lines), *(_chart(name, [name], lines) for name in shown)]
    charts.append(_chart("learning rate", rates, lines))
    return f'<h2>Training</h2><div class="charts">{"".join(charts)}</div>'


def _chart(title: str, names: list[str], lines: Mapping[str, list[tuple[float, float]]]) -> str:
    if not names:
        return ""
    drawn = [Series(name, lines[name]) for name in names[:4]]
    svg = line_chart(drawn, title, lambda value: tick(names[0], value))
    keys = [f'<span><i class="c{i}"></i>{escape(one.name)}</span>' for i, one in enumerate(drawn)]
    key = f'<div class="key">{"".join(keys)}</div>' if len(drawn) > 1 else ""
    return f"<figure><h3>{escape(title)}</h3>{key}{svg}</figure>"


def _fields(predictions: Sequence[Mapping[str, Any]], task: Task) -> str:
    """A scatter of every number and a confusion table of every label."""
    parts = []
    for name in task.field_names:
        truths = [row["truth"][name] for row in predictions]
        answers = [row["parsed"].get(name) for row in predictions]
        pairs = list(zip(truths, answers, strict=True))
        if not pairs:
            continue
        if task.fields[name].kind == "number":
            parts.append(_scatter(name, pairs))
        elif task.fields[name].kind == "label":
            parts.append(f"<h2>{escape(name)}</h2>{confusion_table(truths, answers)}")
    return "".join(parts)


def _scatter(name: str, pairs: Sequence[tuple[float, float | None]]) -> str:
    read = [(float(truth), float(answer)) for truth, answer in pairs if answer is not None]
    unread = [float(truth) for truth, answer in pairs if answer is None]
    note = "Each point is a row; on the dashed line the prediction is the truth."
    if unread:
        note += f" Crosses: {len(unread)} not parsed."
    svg = scatter_chart(read, unread, name)
    return (
        f"<h2>{escape(name)}</h2><p class='note'>{note}</p>"
        f'<div class="charts wide"><figure><h3>prediction (log)</h3>{svg}</figure></div>'
    )


def _pictures(predictions: Sequence[Mapping[str, Any]], task: Task) -> str:
    """A sample of the test split, and the largest errors."""
    questions = {str(row["question"]) for row in predictions}
    asked = f"Each was asked: {questions.pop()}" if len(questions) == 1 else ""
    chosen = sample(predictions)
    parts = [f"<h2>Pictures</h2><p class='note'>{escape(asked)}</p>", _grid(chosen, task)]
    errors = worst(predictions, task)
    if errors and len(predictions) > len(chosen):
        parts += ["<h2>Largest errors</h2>", _grid(errors, task)]
    return "".join(parts)


def _grid(rows: Sequence[Mapping[str, Any]], task: Task) -> str:
    return f'<div class="pictures">{"".join(card(row, task) for row in rows)}</div>'


def _facts(summary: Mapping[str, Any], config_yaml: str, environment: Mapping[str, Any]) -> str:
    """How the figures came about."""
    facts = {f"{name} rows": f"{count:,}" for name, count in summary["rows"].items()}
    facts |= _flat(environment)
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return (
        f'<h2>Run</h2><dl class="facts">{listed}</dl>'
        f"<details><summary>Configuration</summary><pre>{escape(config_yaml)}</pre></details>"
    )


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested facts as one level of texts."""
    flat: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name} ")
        else:
            text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            flat[f"{prefix}{name}"] = text[:_MOST_FACTS]
    return flat
