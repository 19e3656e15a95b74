import numpy as np
import pytest
from matplotlib.container import BarContainer

from deitlt.reports.analysis_figures import (
    attention_distances,
    calibration_errors,
    diversity_over_epochs,
    draw_analysis,
    expert_diversity,
    feature_ranks,
    hessian_sharpness,
    teacher_agreement,
)
from deitlt.reports.figures import COLOURS
from deitlt.types import DataInfo

GROUPS = {"all": 10.0, "head": 2.0, "tail": 40.0}


def heights(axes):
    return [bar.get_height() for bars in axes.containers if isinstance(bars, BarContainer) for bar in bars]


def ticks(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


def test_a_line_runs_through_the_means_and_each_head_is_a_dot():
    found = {"unit": "pixels", "cls": [[1.0, 3.0], [5.0, 5.0]], "patches": [[2.0, 2.0], [4.0, 8.2]], "dist": []}
    (axes,) = attention_distances(found, "a title").axes
    cls, patches, *dots = axes.lines
    np.testing.assert_allclose(cls.get_xydata(), [[1, 2.0], [2, 5.0]])
    np.testing.assert_allclose(patches.get_ydata(), [2.0, 6.1])
    assert cls.get_color() == COLOURS["cls"]
    assert sorted(y for line in dots for y in line.get_ydata()) == [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 8.2]
    assert "pixels" in axes.get_title(loc="left")
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 8.2 * 1.05  # the farthest head is not cut
    assert attention_distances({"cls": [[0.0]]}, "t").axes[0].get_ylim() == (0, 1)


@pytest.mark.parametrize("blocks", [1, 12, 40])
def test_ranks_have_a_panel_for_each_definition(blocks):
    ranks = {name: {"components": [5] * blocks, "effective": [2.5] * blocks} for name in ("cls", "dist")}
    figure = feature_ranks({"width": 64, **ranks}, "t")
    left, right = figure.axes
    assert set(left.lines[0].get_ydata()) == {5}
    assert set(right.lines[1].get_ydata()) == {2.5}
    assert left.lines[0].get_linewidth() > left.lines[1].get_linewidth()  # where they are alike, both are seen
    assert "64" in figure.get_suptitle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["CLS", "DIST"]


@pytest.mark.parametrize("rank", [{"components": 20, "effective": 8.5}, {"components": 0, "effective": 0.0}])
def test_a_teachers_rank_is_two_bars(rank):
    figure = feature_ranks({"width": 64, "features": rank}, "t")
    assert heights(figure.axes[0]) == list(rank.values())
    assert "64" in figure.axes[0].get_title(loc="left")
    assert "99 %" in ticks(figure.axes[0])[0]


def test_diversity_shows_groups_and_blocks():
    found = {"disagreement": GROUPS, "cosine_distance": {"all": 0.5}, "per_block": [0.1, 0.5]}
    left, middle, right = expert_diversity(found, "t").axes
    assert heights(left) == [10.0, 2.0, 40.0]
    assert ticks(middle) == ["all"]
    assert heights(right) == [0.1, 0.5]
    assert left.get_ylim()[1] > 100


def test_diversity_over_epochs_is_a_curve_a_group_sorted_by_epoch():
    history = [{"epoch": epoch, "diversity": {"disagreement": groups, "cosine_distance": groups}}
               for epoch, groups in ((20, GROUPS), (10, {"all": 5.0}))]  # fmt: skip
    every, head, tail = diversity_over_epochs(history, "t").axes[0].lines
    np.testing.assert_array_equal(every.get_xydata(), [[10, 5.0], [20, 10.0]])
    np.testing.assert_array_equal(tail.get_xydata(), [[20, 40.0]])
    assert head.get_color() == COLOURS["head"]


def test_calibration_and_agreement_have_a_cluster_for_each_group_or_kind():
    (axes,) = calibration_errors({"cls": {"tail": 14.0, "all": 7.0}, "dist": {"all": 3.0}}, "t").axes
    assert ticks(axes) == ["all", "tail"]
    assert [[bar.get_height() for bar in bars] for bars in axes.containers] == [[7.0, 14.0], [3.0]]
    (axes,) = teacher_agreement({"clean": {"tail": 90.0, "all": 99.0}, "mixed": {"all": 70.0}}, "t").axes
    assert ticks(axes) == ["clean", "mixed"]
    assert [[bar.get_height() for bar in bars] for bars in axes.containers] == [[99.0, 70.0], [90.0]]


def test_sharpness_shows_images_and_what_a_negative_trace_is_and_what_was_lost_is_absent():
    sharpness = {
        "tail": {"eigenvalue": 8.0, "trace": -3.0, "trace_error": 0.5, "images": 25},
        "all": {"trace": 5.0, "trace_error": 1.0, "images": 1200},
        "head": {},
    }
    left, right = hessian_sharpness(sharpness, "t").axes
    assert (ticks(left), heights(left)) == (["tail\n25 images"], [8.0])
    assert (ticks(right), sorted(heights(right))) == (["all\n1,200 images", "tail\n25 images"], [-3.0, 5.0])
    assert "saddle" in right.get_xlabel()
    assert left.get_xlabel() == ""


INFO = DataInfo(3, (9, 5, 1), ("a", "b", "c"), {"head": (0,), "mid": (1,), "tail": (2,)})


def test_each_part_has_its_picture_and_an_earlier_analysis_none(tmp_path, student_analysis):
    (tmp_path / "sharpness.png").write_bytes(b"of an earlier analysis")
    rows = [{"class": 0, "cls": 50.0, "dist": 40.0}, {"class": 2, "cls": 0.0, "dist": 0.0}]
    analysis = student_analysis() | {"winners": {"cls": 1, "dist": 0, "tie": 1, "classes": rows}}
    analysis["diversity"]["per_block"] = []  # lost, and with it the picture
    drawn = draw_analysis(analysis, INFO, [], tmp_path, "digits, student")
    assert {path.stem for path in drawn} == {"attention_distance", "rank", "calibration", "agreement", "winners"}
    assert set(drawn) == set(tmp_path.iterdir())
