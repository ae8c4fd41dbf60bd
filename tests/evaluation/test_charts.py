"""Charts: points stand where their values are, ticks are round, nothing falls off the edge."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from phi3v.evaluation.charts import Axis, Series, line_chart, linear_ticks, log_ticks, scatter_chart


def parse(svg):
    return ElementTree.fromstring(svg)


def test_an_axis_maps_its_ends_and_its_middle():
    linear, log = Axis(0, 10, 100, 200), Axis(1, 100, 200, 100, log=True)
    assert (linear(0), linear(5), linear(10)) == (100, 150, 200)
    assert (log(1), log(10), log(100)) == pytest.approx((200, 150, 100))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 5, 10]),
        (0.31, 0.92, [0.4, 0.6, 0.8]),
        (-3, 3, [-2, 0, 2]),
        (1e60, 9e60, [2e60, 4e60, 6e60, 8e60]),
    ],
)
def test_linear_ticks_are_round(low, high, ticks):
    assert linear_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.5, 2000, [1, 10, 100, 1000]),
        (8, 400, [10, 20, 50, 100, 200]),
        (70, 2600, [100, 200, 500, 1000, 2000]),
        (1e-9, 2, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
        (90, 600, [100, 200, 500]),
        (100, 120, [100, 105, 110, 115, 120]),
    ],
)
def test_logarithmic_ticks_are_round(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_a_line_ends_at_its_last_step_and_falls_when_its_values_fall():
    svg = parse(line_chart([Series("a", [(0, 3.0), (50, 2.0), (100, 1.0)])], "loss", str))
    places = [tuple(map(float, p.split(","))) for p in svg.find("polyline").get("points").split()]
    assert places[0][0] < places[1][0] < places[2][0] == 440 - 14
    assert places[0][1] < places[1][1] < places[2][1]
    assert len(svg.findall("circle")) == 3


@pytest.mark.parametrize("points", [[(5, 2.0)], [(1, 0.0), (2, 0.0)], [(0, 1.0)]])
def test_one_point_or_a_flat_line_can_be_drawn(points):
    svg = parse(line_chart([Series("a", points), Series("none", [])], "loss", str))
    assert len(svg.findall("polyline")) == 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_stays_where_it_is_has_ticks_of_shares_alone(share):
    svg = line_chart([Series("a", [(1, share), (2, share)])], "rate", lambda v: f"{v:.0%}")
    ticks = re.findall(r">(-?\d+)%<", svg)
    assert len(ticks) >= 2
    assert all(0 <= int(tick) <= 100 for tick in ticks)


def test_a_long_history_is_thinned_and_keeps_its_last_point():
    points = [(step, float(step)) for step in range(10_001)]
    places = parse(line_chart([Series("a", points)], "x", str)).find("polyline").get("points")
    assert len(places.split()) <= 601
    assert places.split()[-1].startswith("426.0,")


def test_a_perfect_prediction_stands_on_the_identity_line():
    svg = parse(scatter_chart([(10.0, 10.0), (100.0, 100.0), (30.0, 90.0)], [], "price"))
    line = {key: float(svg.find("line[@class='identity']").get(key)) for key in ("x1", "y1", "x2")}
    slopes = []
    for dot in svg.findall("circle"):
        across, up = float(dot.get("cx")) - line["x1"], line["y1"] - float(dot.get("cy"))
        slopes.append(up / across)
    assert slopes[0] == pytest.approx(slopes[1], abs=0.01) == pytest.approx(356 / 368, abs=0.01)
    assert slopes[2] > slopes[0]


def test_the_axes_of_truth_and_prediction_say_that_they_are_logarithmic():
    svg = parse(scatter_chart([(90.0, 800.0), (800.0, 90.0)], [], "price"))
    texts = [text.text for text in svg.findall("text")]
    assert texts == ["100", "200", "500", "100", "200", "500", "truth (log)"]


def test_unparsed_and_runaway_predictions_are_marked_inside_the_frame():
    pairs = [(10.0, 12.0), (20.0, 1e60), (20.0, -5.0), (30.0, 0.0)]
    svg = parse(scatter_chart(pairs, [15.0, 25.0], "price"))
    assert len(svg.findall("circle")) == 1
    assert len(svg.findall("polygon")) == 3
    assert len(svg.findall("path[@class='cross']")) == 2
    corners = [float(n) for p in svg.findall("polygon") for n in re.split("[ ,]", p.get("points"))]
    assert min(corners) >= 0
    assert max(corners) <= 440


def test_only_unparsed_predictions_or_equal_truths_can_be_drawn():
    assert len(parse(scatter_chart([], [5.0], "p")).findall("path")) == 1
    assert len(parse(scatter_chart([(5.0, 5.0)] * 3, [], "p")).findall("circle")) == 3


def test_names_are_escaped():
    assert "<b>" not in scatter_chart([(1.0, 1.0)], [], '"<b>')
    assert "<b>" not in line_chart([Series("<b>", [(1, 1.0)])], "<b>", lambda value: "<b>")
