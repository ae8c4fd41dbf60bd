"""Does the model look at the picture? The answer in words, with the figures that it rests on.

A model that answers as well when it sees a gray rectangle, or the picture of another example, does
not use its eyes, however good its figures are.
"""

from __future__ import annotations

from collections.abc import Mapping

from phi3v.evaluation.figures import HEADLINE, metric_title, write_figure
from phi3v.task import Task, direction

Metrics = Mapping[str, float]
Intervals = Mapping[str, tuple[float, float]]

_CONTROLS = {"blank": "with a blank one", "shuffled": "with that of another example"}
_CONSTANT = {"text": "the most frequent text", "label": "the majority", "number": "the median"}


def verdict(
    task: Task, systems: Mapping[str, Metrics], intervals: Intervals | None = None
) -> tuple[bool, list[str]]:
    """Judge whether a model looks.

    It does when, on the objective and on the accuracy or MAPE of every label and number, the real
    picture is better than each control by more than chance: the control lies outside the
    interval of the real picture's figure.

    Args:
        task: says which metrics decide.
        systems: metrics by system; "fine_tuned", and of "blank", "shuffled", "baseline",
            "constant" and "optimum" those that were measured.
        intervals: 95 % intervals of the "fine_tuned" metrics.

    Returns:
        Whether the model looks, and sentences that say so to a person, the first one the verdict.
    """
    own = systems["fine_tuned"]
    if all(own[f"{field}/parse_rate"] == 0 for field in task.field_names):
        return False, [
            "Whether the model looks cannot be said: not one of its answers could be read."
        ]
    controls = [name for name in _CONTROLS if systems.get(name)]
    if not controls:
        return False, ["Whether the model looks was not checked: no picture control was run."]
    deciding = _deciding(task, systems.get("baseline", {}))
    seen = [name for name in deciding if _sees(name, own, systems, controls, intervals or {})]
    unseen = [name for name in deciding if name not in seen]
    facts = [_fact(task, name, systems, controls, name in seen) for name in (*seen, *unseen)]
    if not unseen:
        opening = "The model looks"
    elif not seen:
        opening = "The model is blind"
    else:
        blind = " and ".join(name.rpartition("/")[0] for name in unseen)
        opening = f"The model looks only in part, not for {blind}"
    sentences = [f"{opening}: the {facts[0]}", *(f"The {fact}" for fact in facts[1:])]
    return not unseen, [*sentences, *_beside(task, systems)]


def _deciding(task: Task, constant: Metrics) -> list[str]:
    """The metrics that decide: the objective and the headline of labels and numbers.

    A label with one value is right without a look, and cannot decide anything.
    """
    names = [] if task.objective.endswith("parse_rate") else [task.objective]
    kinds = {name: task.fields[name].kind for name in task.field_names}
    names += [f"{name}/{HEADLINE[kind]}" for name, kind in kinds.items() if kind != "text"]
    names = [name for name in names if constant.get(name) != perfect(name)] or names
    names = names or [f"{name}/{HEADLINE['text']}" for name in kinds]
    return list(dict.fromkeys(names))


def perfect(name: str) -> float:
    """The value of a metric than which there is no better."""
    return 0.0 if direction(name) == "min" else 1.0


def _sees(
    name: str,
    own: Metrics,
    systems: Mapping[str, Metrics],
    controls: list[str],
    intervals: Intervals,
) -> bool:
    """Whether every control is worse than the interval of the real picture's figure."""
    low, high = intervals.get(name, (own[name], own[name]))
    figures = [systems[control][name] for control in controls]
    if direction(name) == "min":
        return min(figures) > high
    return max(figures) < low


def _called(name: str) -> str:
    return f"{metric_title(name)} of {name.rpartition('/')[0]}"


def _fact(
    task: Task, name: str, systems: Mapping[str, Metrics], controls: list[str], seen: bool
) -> str:
    """One metric on the real picture, on the controls, and by a constant answer."""
    real = write_figure(name, systems["fine_tuned"][name])
    others = [f"{write_figure(name, systems[c][name])} {_CONTROLS[c]}" for c in controls]
    text = f"{_called(name)} is {real} with the real picture"
    text += f", {'' if seen else 'but also '}{' and '.join(others)}"
    constant = systems.get("baseline", {}).get(name)
    kind = task.fields[name.partition("/")[0]].kind
    if constant is not None:
        text += f"; always answering {_CONSTANT[kind]} gives {write_figure(name, constant)}"
        best = systems.get("constant", {}).get(name)
        if best is not None and kind == "number":
            text += f", the best constant {write_figure(name, best)}"
    return text + "."


def _beside(task: Task, systems: Mapping[str, Metrics]) -> list[str]:
    """How far the objective is from the best possible, where that is known."""
    best = systems.get("optimum", {}).get(task.objective)
    if not best:
        return []
    own = systems["fine_tuned"][task.objective]
    return [
        f"The best possible {_called(task.objective)} on these pictures is"
        f" {write_figure(task.objective, best)}; the model's is {own / best:.2f} times that."
    ]
