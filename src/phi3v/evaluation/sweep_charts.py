"""Charts of a sweep as inline SVG: the curves of all jobs, and overrides against the objective.

    curves([Curve("job 0", points, rank=0.0)], "loss", write_number)
    parallel_coordinates(["adapter.r"], [Way("job 0", ["8"], 0.14, rank=0.0)], "mape", write_number)

Lines are coloured by the rank of their job, the best in the colour of the page's accent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from phi3v.evaluation.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Point,
    grid,
    spread,
    svg,
    thin,
    tip,
)
from phi3v.evaluation.figures import write_number, write_settings

_WIDE = 900
_MARGIN = 96
_MOST_LABELS = 12
_FAR = 3.0


@dataclass(frozen=True)
class Curve:
    """One job's line.

    Attributes:
        name: Shown when the line is pointed at.
        points: (step, value) in ascending order of steps.
        rank: 0 for the best job, 1 for the worst.
    """

    name: str
    points: Sequence[Point]
    rank: float


@dataclass(frozen=True)
class Way:
    """One job's way through the axes of the overrides.

    Attributes:
        name: Shown when the line is pointed at.
        values: Its overrides as they are written, one for each axis.
        objective: What it returned.
        rank: 0 for the best job, 1 for the worst.
    """

    name: str
    values: Sequence[str]
    objective: float
    rank: float


def curves(lines: Sequence[Curve], label: str, write: Callable[[float], str]) -> str:
    """One metric of all jobs over steps; "" where there is nothing to draw.

    Args:
        lines: One for each job.
        label: What the chart shows, for readers that do not see it.
        write: Writes a value of the vertical axis.
    """
    drawn = [Curve(one.name, thin(one.points), one.rank) for one in lines if one.points]
    if not drawn:
        return ""
    steps = [step for one in drawn for step, _ in one.points]
    values = [value for one in drawn for _, value in one.points]
    x = Axis(*spread(min(0.0, *steps), max(steps), 0.0), LEFT, WIDTH - RIGHT)
    # A value that ran away must not flatten all curves: what is far above most of them is cut off.
    usual = sorted(values)[math.ceil(0.9 * len(values)) - 1]
    most = _FAR * usual if usual > 0 else max(values)
    y = Axis(*spread(min(values), min(max(values), most), 0.06), HEIGHT - BOTTOM, TOP)
    parts = [grid(x, y, write_number, write, "step")]
    for one in sorted(drawn, key=lambda line: -line.rank):  # the best on top
        shown = [(step, min(value, y.high)) for step, value in one.points]
        places = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in shown)
        told = tip(f"{one.name}: {write(one.points[-1][1])} at the end")
        parts.append(
            f'<polyline class="line" {_colour(one.rank)} points="{places}">{told}</polyline>'
        )
        if len(one.points) == 1:
            (step, value), *_ = one.points
            place = f'cx="{x(step):.1f}" cy="{y(value):.1f}" r="3"'
            parts.append(f"<circle {place} {_colour(one.rank, 'fill')}>{told}</circle>")
    return svg(parts, label, HEIGHT)


def parallel_coordinates(
    names: Sequence[str], ways: Sequence[Way], objective: str, write: Callable[[float], str]
) -> str:
    """A vertical axis for each override, the objective at the right, a line for each job.

    Args:
        names: The overrides' keys.
        ways: One for each job that came to a figure.
        objective: Its name.
        write: Writes a value of the objective.
    """
    places = [_MARGIN + i * (_WIDE - 2 * _MARGIN) / len(names) for i in range(len(names) + 1)]
    scales = [_Scale.of([way.values[i] for way in ways]) for i in range(len(names))]
    values = [way.objective for way in ways]
    last = Axis(*spread(min(values), max(values), 0.0), HEIGHT - BOTTOM, 2 * TOP + 8)
    parts = []
    for way in sorted(ways, key=lambda one: -one.rank):
        heights = [scale.place(value) for scale, value in zip(scales, way.values, strict=True)]
        points = zip(places, [*heights, last(way.objective)], strict=True)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        told = tip(f"{way.name}: {write(way.objective)}")
        parts.append(
            f'<polyline class="line" {_colour(way.rank)} points="{line}">{told}</polyline>'
        )
    for place, name, scale in zip(places, names, scales, strict=False):
        parts.append(_axis(place, name, scale.labels()))
    ends = [(last(value), write(value)) for value in sorted({min(values), max(values)})]
    parts.append(_axis(places[-1], objective, ends))
    return svg(parts, f"overrides and {objective}", HEIGHT, _WIDE)


@dataclass(frozen=True)
class _Scale:
    """Places of the values of one override: by size where all are numbers, else in their order."""

    values: tuple[str, ...]
    axis: Axis | None

    @classmethod
    def of(cls, values: Sequence[str]) -> _Scale:
        known = tuple(dict.fromkeys(values))
        numbers = [_number(value) for value in known]
        if any(number is None for number in numbers) or len(known) < 2:
            return cls(known, None)
        sizes = [number for number in numbers if number is not None]
        low, high = min(sizes), max(sizes)
        log = low > 0 and high / low > 5
        return cls(known, Axis(low, high, HEIGHT - BOTTOM, 2 * TOP + 8, log=log))

    def place(self, value: str) -> float:
        number = _number(value)
        if self.axis is not None and number is not None:
            return self.axis(number)
        top, bottom = 2 * TOP + 8, HEIGHT - BOTTOM
        if len(self.values) == 1:
            return (top + bottom) / 2
        return bottom - self.values.index(value) * (bottom - top) / (len(self.values) - 1)

    def labels(self) -> list[tuple[float, str]]:
        shown = self.values[:: math.ceil(len(self.values) / _MOST_LABELS)]
        return [(self.place(value), text) for value, text in write_settings(shown).items()]


def _line(places: str, rank: float, told: str) -> str:
    return f'<polyline class="line" {_colour(rank)} points="{places}">{told}</polyline>'


def _axis(x: float, name: str, labels: Sequence[tuple[float, str]]) -> str:
    parts = [
        f'<line class="base" x1="{x:.1f}" x2="{x:.1f}" y1="{2 * TOP + 8}" y2="{HEIGHT - BOTTOM}"/>',
        f'<text x="{x:.1f}" y="{TOP + 6}" text-anchor="middle">{escape(_cut(name))}</text>',
    ]
    for y, text in labels:
        place = f'x="{x + 6:.1f}" y="{y + 4:.1f}"'
        parts.append(f'<text class="label" {place}>{escape(_cut(text))}{tip(text)}</text>')
    return "".join(parts)


def _cut(text: str, most: int = 26) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _colour(rank: float, what: str = "stroke") -> str:
    """From the accent, for the best, to the colour of soft text."""
    share = round(100 * (1 - min(max(rank, 0.0), 1.0)))
    width = 2.6 if rank == 0 else 1.4
    mixed = f"color-mix(in srgb, var(--accent) {share}%, var(--second))"
    size = f";stroke-width:{width}" if what == "stroke" else ""
    return f'style="{what}:{mixed}{size}"'
