import math
import xml.etree.ElementTree as ET

import pytest

from deitlt.reports.charts import LOOKS, Line, line_chart


def parsed(chart):
    return ET.fromstring(str(chart.svg))


def paths(chart, look):
    return [p.get("d") for p in parsed(chart).iter("path") if p.get("class") == f"line look-{look}"]


def test_a_line_goes_through_its_points():
    chart = line_chart("Loss", [Line("CLS", "cls", [(1, 0.0), (2, 5.0), (3, 10.0)])], "epoch")
    (path,) = paths(chart, "cls")
    points = [tuple(map(float, point.split(","))) for point in path[1:].split("L")]
    assert [x for x, _ in points] == pytest.approx([48, 199, 350])
    assert [y for _, y in points] == pytest.approx([182, 96, 10])


def test_the_words_say_the_numbers():
    lines = [Line("CLS", "cls", [(1, 2.24), (150, 0.56)]), Line("DIST", "dist", [(4, 1.0)])]
    chart = line_chart("Loss", lines, "epoch")
    assert chart.alt == "Loss. CLS: 2.24 at epoch 1, 0.56 at epoch 150. DIST: 1 at epoch 4."
    assert parsed(chart).get("aria-label") == chart.alt
    assert parsed(chart).get("role") == "img"
    assert [entry.name for entry in chart.legend] == ["CLS", "DIST"]


def test_names_cannot_leave_the_picture():
    name = '"><script>alert(1)</script>&'
    chart = line_chart(name, [Line(name, "s0", [(1, 1.0), (2, 2.0)])], name, mark=(1.5, name))
    assert "<script" not in chart.svg
    assert name in parsed(chart).get("aria-label")
    assert sum(text.text == name for text in parsed(chart).iter("text")) == 2


def test_a_long_line_is_thinned_and_keeps_its_end():
    points = [(i, math.sin(i)) for i in range(5000)]
    chart = line_chart("x", [Line("a", "plain", points)], "epoch")
    (path,) = paths(chart, "plain")
    assert 120 < path.count("L") <= 241
    assert path.rpartition("L")[2].startswith("350.0,")
    assert len(chart.svg) < 6000


def test_lines_differ_without_colour():
    drawn = [parsed(line_chart("x", [Line("a", look, [(1, 1.0)])], "e")) for look in ("cls", "dist", "avg")]
    dots = [next(path for path in svg.iter("path") if path.get("class").startswith("dot")) for svg in drawn]
    assert len({dot.get("d") for dot in dots}) == 3
    assert len(set(LOOKS.values())) >= 5
