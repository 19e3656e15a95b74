import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from deitlt.figures import GROUP_COLOURS, group_colour, save_figure, series_style
from deitlt.figures.style import group_spans, house_style, shorten
from deitlt.longtail import by_frequency


def test_a_token_looks_the_same_under_each_of_its_names():
    assert series_style("student CLS") == series_style("CLS") == series_style("cls")
    assert series_style("plain ViT CLS") == series_style("plain ViT")
    assert series_style("student (EMA) DIST").line == "--"
    assert series_style("student (EMA) DIST").colour == series_style("DIST").colour


def test_series_and_groups_differ_in_colour():
    names = ["teacher", "CLS", "DIST", "AVG", "plain ViT", *(f"other {i}" for i in range(4))]
    styles = [series_style(name, i) for i, name in enumerate(names)]
    colours = [style.colour for style in styles] + list(GROUP_COLOURS.values())
    assert len(set(colours)) == len(colours)
    assert len({style.marker for style in styles}) == len(styles)
    assert group_colour("nobody") not in colours


def test_groups_get_brighter_towards_the_tail():
    brightness = [
        np.dot([int(group_colour(g)[i : i + 2], 16) for i in (1, 3, 5)], [0.3, 0.59, 0.11])
        for g in ("head", "mid", "tail")
    ]
    assert brightness == sorted(brightness)


def test_classes_are_sorted_by_count_and_ties_by_id():
    assert by_frequency([5, 9, 5, 1, 9]).tolist() == [1, 4, 0, 2, 3]


def test_spans_are_stretches_of_one_group():
    order = np.array([2, 0, 1, 3])
    assert group_spans(order, {"head": [2, 0], "tail": [1]}) == [("head", 0, 2), ("tail", 2, 3), ("", 3, 4)]
    assert group_spans(order, {"head": [2, 1], "tail": [0, 3]}) == [
        ("head", 0, 1),
        ("tail", 1, 2),
        ("head", 2, 3),
        ("tail", 3, 4),
    ]


def test_long_names_are_cut():
    assert shorten("elephant", 8) == "elephant"
    assert shorten("elephants", 8) == "elephan…"


def test_the_callers_settings_stay(tmp_path):
    before = dict(matplotlib.rcParams)
    with house_style():
        assert matplotlib.rcParams["axes.spines.top"] is False
    assert dict(matplotlib.rcParams) == before


def test_a_failed_drawing_leaves_the_old_picture_and_no_draft(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    class Broken(Figure):
        def savefig(self, fname, **options):
            fname.write_bytes(b"half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        save_figure(Broken(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_suffix_is_the_format(tmp_path, suffix, start):
    path = save_figure(Figure(), tmp_path / "new" / f"a.{suffix}")
    assert path.read_bytes().startswith(start)
