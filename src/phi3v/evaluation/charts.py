"""Charts as inline SVG: lines over steps, and truth against prediction on logarithmic axes.

    line_chart([Series("training", [(1, 3.2), (2, 2.8)])], "loss", write_number)
    scatter_chart([(470.0, 455.0)], [290.0], "full_price")

They take their colours from the page's style sheet, so they follow its light and dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from phi3v.evaluation.figures import write_number

Point = tuple[float, float]

WIDTH, HEIGHT = 440, 270
SQUARE = 408  # the height at which both axes of a scatter are equally long
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 40
_MOST_POINTS = 600
_MOST_FINE = 8  # ticks of 1, 2 and 5; of more than these, three at least are powers of ten


@dataclass(frozen=True)
class Series:
    """One line of a chart: a name, and (step, value) points in ascending order of steps."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels, linearly or by their logarithm.

    Attributes:
        low, high: the ends in the values' unit; different, and positive if logarithmic.
        start, end: the ends in pixels.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values for the labels, three to six of them."""
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)


def line_chart(series: Sequence[Series], label: str, write: Callable[[float], str]) -> str:
    """Values over steps.

    Args:
        series: the lines; those without points are left out.
        label: what the chart shows, for readers that do not see it.
        write: writes a value of the vertical axis.
    """
    drawn = [Series(one.name, thin(one.points)) for one in series if one.points]
    steps = [step for one in drawn for step, _ in one.points]
    values = [value for one in drawn for _, value in one.points]
    x = Axis(*spread(min(0.0, *steps), max(steps), 0.0), LEFT, WIDTH - RIGHT)
    y = Axis(*spread(min(values), max(values), 0.06), HEIGHT - BOTTOM, TOP)
    parts = [grid(x, y, write_number, write, "step")]
    for index, one in enumerate(drawn):
        places = [f"{x(step):.1f},{y(value):.1f}" for step, value in one.points]
        parts.append(f'<polyline class="line c{index}" points="{" ".join(places)}"/>')
        if len(places) <= 30:
            for step, value in one.points:
                told = f"{one.name}, step {write_number(step)}: {write(value)}"
                parts.append(_dot(x(step), y(value), f"dot c{index}", told, 3))
    return svg(parts, label, HEIGHT)


def scatter_chart(pairs: Sequence[Point], unparsed: Sequence[float], name: str) -> str:
    """Truth (across) against prediction (up), both on the same logarithmic axis.

    Args:
        pairs: (truth, prediction); truths are positive.
        unparsed: the truths whose prediction could not be read, crosses on the bottom line.
        name: of the field.

    Predictions beyond a factor of three of all truths are drawn as triangles at the edge, so that
    one runaway answer does not flatten the rest.
    """
    truths = [truth for truth, _ in pairs] + list(unparsed)
    widest = min(truths) / 3, max(truths) * 3
    inside = [p for _, p in pairs if widest[0] <= p <= widest[1]]
    low, high = min(truths + inside) / 1.1, max(truths + inside) * 1.1
    x = Axis(low, high, LEFT, WIDTH - RIGHT, log=True)
    y = Axis(low, high, SQUARE - BOTTOM, TOP, log=True)
    parts = [grid(x, y, write_number, write_number, "truth (log)")]
    ends = f'x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}"'
    parts.append(f'<line class="identity" {ends}/>')
    for truth, predicted in pairs:
        told = f"truth {write_number(truth)}, prediction {write_number(predicted)}"
        clipped = min(max(predicted, low), high)
        if clipped == predicted:
            parts.append(_dot(x(truth), y(clipped), "point", told, 3.2))
        else:
            down = 1 if predicted < low else -1
            parts.append(_triangle(x(truth), y(clipped), down, told))
    for truth in unparsed:
        told = f"truth {write_number(truth)}, not parsed"
        parts.append(_cross(x(truth), y(low), told))
    return svg(parts, f"{name}: truth against prediction", SQUARE)


def linear_ticks(low: float, high: float) -> list[float]:
    """Round numbers between low and high, a step of 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [count * step for count in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Steps of 1, 2 and 5 between low and high; powers of ten alone where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    fine = [tick for tick in fine if low <= tick <= high]
    if len(fine) < 3:
        return linear_ticks(low, high)
    if len(fine) <= _MOST_FINE:
        return fine
    tens = [10.0**power for power in powers if low <= 10.0**power <= high]
    return tens[:: math.ceil(len(tens) / 6)]


def spread(low: float, high: float, margin: float) -> tuple[float, float]:
    """Ends of an axis that shows low to high; for a flat line it begins at zero."""
    if low == high:
        # Room on both sides would show shares below nothing or above all.
        low, high = (min(0.0, low), max(0.0, high)) if low else (0.0, 1.0)
    return low - margin * (high - low), high + margin * (high - low)


def thin(points: Sequence[Point]) -> Sequence[Point]:
    """Few enough points for a line; the last one stays."""
    every = math.ceil(len(points) / _MOST_POINTS)
    return points if every == 1 else [*points[:-1][::every], points[-1]]


def grid(
    x: Axis,
    y: Axis,
    write_x: Callable[[float], str],
    write_y: Callable[[float], str],
    title: str,
) -> str:
    """Grid lines, the labels of both axes, and the title of the lower one."""
    base = y.start
    parts = []
    for tick in y.ticks():
        ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"'
        parts.append(f'<line class="grid" {ends}/>')
        place = f'x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end"'
        parts.append(f"<text {place}>{escape(write_y(tick))}</text>")
    for tick in x.ticks():
        place = f'x="{x(tick):.1f}" y="{base + 18}" text-anchor="middle"'
        parts.append(f"<text {place}>{escape(write_x(tick))}</text>")
    parts.append(f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    place = f'x="{WIDTH - RIGHT}" y="{base + 34}" text-anchor="end"'
    parts.append(f"<text {place}>{escape(title)}</text>")
    return "".join(parts)


def _dot(x: float, y: float, style: str, told: str, radius: float) -> str:
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{tip(told)}</circle>'


def _triangle(x: float, y: float, down: int, told: str) -> str:
    corners = f"{x - 5:.1f},{y - 8 * down:.1f} {x + 5:.1f},{y - 8 * down:.1f} {x:.1f},{y:.1f}"
    return f'<polygon class="point" points="{corners}">{tip(told)}</polygon>'


def _cross(x: float, y: float, told: str) -> str:
    strokes = f"M{x - 4:.1f},{y - 4:.1f}l8,8m0,-8l-8,8"
    return f'<path class="cross" d="{strokes}">{tip(told)}</path>'


def tip(text: str) -> str:
    """What is shown when somebody points at the shape that holds it."""
    return f"<title>{escape(text)}</title>"


def svg(parts: Sequence[str], label: str, height: int, width: int = WIDTH) -> str:
    """The picture; `label` is for readers that do not see it."""
    frame = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}"'
    return f"<svg {frame}>{''.join(parts)}</svg>"
