import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from deitlt.reports.figures import (
    COLOURS,
    bar_panels,
    group_colour,
    line_panels,
    save_figure,
    series_style,
    spare_style,
    svg_of,
)

SVG = "{http://www.w3.org/2000/svg}"
LINES = {"CLS": [(1, 0.0), (2, 5.0), (3, 10.0)], "DIST": [(1, 2.0), (3, 4.0)]}


def parsed(figure, alt="what it shows"):
    return ET.fromstring(str(svg_of(figure, alt)))


def words(svg):
    return [text.text for text in svg.iter(f"{SVG}text")]


def test_a_token_looks_the_same_under_each_of_its_names():
    assert series_style("student CLS") == series_style("CLS") == series_style("cls")
    assert series_style("plain ViT CLS") == series_style("plain ViT")
    assert series_style("student (EMA) DIST").line == "--"
    assert series_style("student (EMA) DIST").colour == series_style("DIST").colour
    assert series_style("tail").colour == group_colour("tail") == COLOURS["tail"]


def test_series_and_groups_differ_in_colour_and_marker():
    tokens = [series_style(name) for name in ("teacher", "CLS", "DIST", "AVG", "plain ViT", "patches")]
    for styles in (tokens, [spare_style(i) for i in range(6)]):
        assert len({style.colour for style in styles}) == len({style.marker for style in styles}) == 6
    assert group_colour("nobody") not in COLOURS.values()


def test_the_callers_settings_stay(tmp_path):
    before = dict(matplotlib.rcParams)
    save_figure(line_panels({"": LINES}, "epoch"), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before


def test_a_failed_drawing_leaves_the_old_picture_and_no_draft(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    class Broken(Figure):
        def savefig(self, fname, **options):
            Path(fname).write_bytes(b"half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        save_figure(Broken(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_in_the_page_a_figure_is_text_and_tokens_without_ids():
    figure = line_panels({"accuracy, %": LINES}, "epoch", mark=(2.0, "DRW"))
    svg = parsed(figure, 'a "quoted" <alt>')
    assert svg.attrib == {"viewBox": svg.get("viewBox"), "role": "img", "aria-label": 'a "quoted" <alt>'}
    assert {"accuracy, %", "epoch", "DRW", "CLS", "DIST"} <= set(words(svg))
    styles = " ".join(element.get("style", "") for element in svg.iter())
    assert all(f"var(--{token})" in styles for token in ("cls", "dist", "faint", "rule", "ink"))
    assert not [colour for colour in COLOURS.values() if colour in styles]
    assert not [element for element in svg.iter() if "id" in element.attrib or element.tag.endswith(("use", "defs"))]
    assert sum("translate" in element.get("transform", "") for element in svg.iter()) >= 5  # markers
    assert svg_of(figure, "a") == svg_of(line_panels({"accuracy, %": LINES}, "epoch", mark=(2.0, "DRW")), "a")


def test_names_cannot_leave_the_picture():
    name = '"><script>alert(1)</script>& $x$'
    svg = svg_of(line_panels({name: {name: [(1, 1.0), (2, 2.0)], "b": [(1, 1.0)]}}, name, mark=(1.5, name)), name)
    assert "<script" not in svg
    assert words(ET.fromstring(str(svg))).count(name) == 4


def test_lines_go_through_their_points_over_whole_epochs_from_zero():
    (axes,) = line_panels({"loss": LINES}, "epoch").axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[list(p) for p in line] for line in LINES.values()]
    assert [line.get_color() for line in axes.lines] == [COLOURS["cls"], COLOURS["dist"]]
    assert axes.get_ylim() == (0, 10)
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_a_line_that_is_alone_is_named_where_it_must_be_and_zeros_are_drawn():
    alone = {"": {"x": [(1, 0.0), (2, 0.0)]}}
    figure = line_panels(alone, "epoch")
    assert not figure.legends
    assert figure.axes[0].get_ylim() == (0, 1)
    assert line_panels(alone, "epoch", named=True).legends


def test_bars_stand_in_clusters_with_a_gap_for_what_is_absent():
    figure = bar_panels({"right, %": {"clean": {"all": 99.0, "tail": 90.0}, "mixed": {"all": 70.0}}}, percent=True)
    (axes,) = figure.axes
    every, tail = axes.containers
    assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "mixed"]
    assert [bar.get_height() for bar in every] == [99.0, 70.0]
    assert [bar.get_height() for bar in tail] == [90.0]
    assert every[0].get_x() < 0 < tail[0].get_x() + tail[0].get_width()
    assert axes.get_ylim()[1] >= 100
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all", "tail"]


def test_numbers_stand_beyond_their_standard_errors():
    bars = {"trace": {"all": {"all": 5.0}, "tail": {"tail": -3.0}}}
    (axes,) = bar_panels(bars, errors={"trace": {"all": 1.0, "tail": 0.5}}).axes
    spreads = [bars.lines[2][0].get_segments() for bars in axes.containers if hasattr(bars, "has_yerr")]
    assert [segment[:, 1].tolist() for (segment,) in spreads] == [[4.0, 6.0], [-3.5, -2.5]]
    assert [text.xy[1] for text in axes.texts] == [6.0, -3.5]
