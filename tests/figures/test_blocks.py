"""Pictures over a transformer's blocks: attention distances, ranks, diversity."""

import numpy as np
import pytest

from deitlt.figures import (
    attention_distances,
    diversity_over_epochs,
    expert_diversity,
    feature_rank,
    feature_ranks,
    series_style,
)

GROUPS = {"all": 10.0, "head": 2.0, "tail": 40.0}


def test_a_line_runs_through_the_means_and_each_head_is_a_dot(tmp_path, drawn, pixels):
    distances = {"cls": [[1.0, 3.0], [5.0, 5.0]], "patches": [[2.0, 2.0], [4.0, 8.0]]}
    path = attention_distances(distances, tmp_path / "a.png", "a title")
    assert pixels(path).std() > 5
    axes = drawn[0].axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["CLS, mean of heads"].get_ydata(), [2.0, 5.0])
    np.testing.assert_array_equal(lines["patches, mean of heads"].get_ydata(), [2.0, 6.0])
    assert lines["CLS, mean of heads"].get_color() == series_style("CLS").colour
    dots = sorted(y for line in axes.lines if "mean" not in line.get_label() for y in line.get_ydata())
    assert dots == [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 8.0]
    assert "pixels" in axes.get_ylabel()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]


def test_the_farthest_head_is_not_cut_by_the_upper_edge(tmp_path, drawn):
    attention_distances({"cls": [[8.2, 8.0], [8.1, 8.1]]}, tmp_path / "a.png", "t")
    attention_distances({"cls": [[0.0]]}, tmp_path / "a.png", "t")
    assert drawn[0].axes[0].get_ylim()[0] == 0
    assert drawn[0].axes[0].get_ylim()[1] > 8.2 * 1.05
    assert drawn[1].axes[0].get_ylim() == (0, 1)


@pytest.mark.parametrize("blocks", [1, 12, 40])
def test_ranks_have_a_panel_for_each_definition(tmp_path, drawn, blocks):
    ranks = {name: {"components": [5] * blocks, "effective": [2.5] * blocks} for name in ("cls", "dist")}
    feature_ranks(ranks, 64, tmp_path / "a.png", "t")
    left, right = drawn[0].axes
    assert [line.get_label() for line in left.lines] == ["CLS", "DIST"]
    assert set(left.lines[0].get_ydata()) == {5}
    assert set(right.lines[1].get_ydata()) == {2.5}
    assert "64" in drawn[0].get_suptitle()
    assert len(left.get_xticks()) <= 16


def test_ranks_of_a_student_without_dist_and_of_one_image_are_drawn(tmp_path, drawn):
    feature_ranks({"cls": {"components": [0, 0], "effective": [0.0, 0.0]}}, 64, tmp_path / "a.png", "t")
    assert drawn[0].axes[0].get_ylim()[1] > 0


@pytest.mark.parametrize("rank", [{"components": 20, "effective": 8.5}, {"components": 0, "effective": 0.0}])
def test_a_teachers_rank_is_two_bars_under_its_width(tmp_path, drawn, pixels, rank):
    assert pixels(feature_rank(rank, 64, tmp_path / "a.png", "t")).std() > 5
    (axes,) = drawn[0].axes
    assert [bar.get_height() for bar in axes.containers[0]] == list(rank.values())
    assert set(axes.lines[0].get_ydata()) == {64}
    assert axes.get_ylim()[1] > 64
    assert "99 %" in axes.get_xticklabels()[0].get_text()


def test_diversity_shows_groups_and_blocks(tmp_path, drawn):
    expert_diversity(GROUPS, {"all": 0.5}, [0.1, 0.5], tmp_path / "a.png", "t")
    left, middle, right = drawn[0].axes
    assert [bar.get_height() for bar in left.containers[0]] == [10.0, 2.0, 40.0]
    assert [label.get_text() for label in middle.get_xticklabels()] == ["all"]
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [0.1, 0.5])


def test_diversity_over_epochs_is_a_curve_a_group_sorted_by_epoch(tmp_path, drawn):
    history = {20: GROUPS, 10: {"all": 5.0}}
    diversity_over_epochs(history, history, tmp_path / "a.png", "t")
    curves = {line.get_label(): line for line in drawn[0].axes[0].lines}
    np.testing.assert_array_equal(curves["all"].get_xydata(), [[10, 5.0], [20, 10.0]])
    np.testing.assert_array_equal(curves["tail"].get_xydata(), [[20, 40.0]])
