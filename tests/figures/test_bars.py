import pytest

from deitlt.figures import calibration_errors, group_colour, hessian_sharpness, series_style, teacher_agreement
from deitlt.figures.bars import in_group_order


def bars_of(axes):
    return {
        bars.get_label(): [(round(bar.get_x() + bar.get_width() / 2, 6), bar.get_height()) for bar in bars]
        for bars in axes.containers
    }


def test_groups_stand_in_order_and_others_behind_them():
    assert in_group_order(["tail", "few", "all", "head", "tail"]) == ["all", "head", "tail", "few"]


def test_agreement_has_a_cluster_for_each_kind_and_a_gap_for_what_is_absent(tmp_path, drawn, pixels):
    agreement = {"clean": {"tail": 90.0, "all": 99.0}, "mixed": {"all": 70.0}}
    path = teacher_agreement(agreement, tmp_path / "a.png", "a title")
    assert pixels(path).std() > 10
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "mixed"]
    found = bars_of(axes)
    assert [height for _, height in found["all"]] == [99.0, 70.0]
    assert [height for _, height in found["tail"]] == [90.0]
    assert found["all"][0][0] < 0 < found["tail"][0][0]
    assert axes.get_ylim() == (0, 100)
    assert "%" in axes.get_ylabel()


def test_a_long_title_stands_clear_of_the_legend(tmp_path, drawn):
    teacher_agreement({"clean": {"all": 90.0, "tail": 5.0}}, tmp_path / "a.png", "digits, student: jugglery " * 3)
    axes = drawn[0].axes[0]
    assert axes.title.get_window_extent().y0 > axes.get_legend().get_window_extent().y1


def test_calibration_has_a_cluster_for_each_group_in_the_answers_colours(tmp_path, drawn):
    errors = {"CLS": {"all": 7.0, "tail": 14.0}, "DIST": {"all": 3.0}}
    calibration_errors(errors, tmp_path / "a.png", "t")
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["all", "tail"]
    assert [height for _, height in bars_of(axes)["CLS"]] == [7.0, 14.0]
    colours = {bars.get_label(): bars[0].get_facecolor() for bars in axes.containers}
    assert colours["DIST"] == pytest.approx(_rgba(series_style("DIST").colour))


def test_sharpness_draws_both_numbers_and_a_negative_trace(tmp_path, drawn):
    sharpness = {"all": {"eigenvalue": 70.0, "trace": 500.0}, "head": {"eigenvalue": 80.0, "trace": -3.0}}
    hessian_sharpness(sharpness, tmp_path / "a.png", "t")
    left, right = drawn[0].axes
    assert [bar.get_height() for bar in left.containers[0]] == [70.0, 80.0]
    assert [bar.get_height() for bar in right.containers[0]] == [500.0, -3.0]
    assert left.containers[0][1].get_facecolor() == pytest.approx(_rgba(group_colour("head")))


def test_sharpness_shows_images_errors_and_what_a_negative_trace_is(tmp_path, drawn):
    sharpness = {
        "tail": {"eigenvalue": 8.0, "trace": -3.0, "trace_error": 0.5, "images": 25},
        "all": {"eigenvalue": 7.0, "trace": 5.0, "trace_error": 1.0, "images": 1200},
    }
    hessian_sharpness(sharpness, tmp_path / "a.png", "t")
    left, right = drawn[0].axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["all\n1,200 images", "tail\n25 images"]
    (errors,) = [group for group in right.containers if hasattr(group, "has_yerr")]
    assert [segment[:, 1].tolist() for segment in errors.lines[2][0].get_segments()] == [[4.0, 6.0], [-3.5, -2.5]]
    assert [text.xy for text in right.texts] == [(0.0, 6.0), (1.0, -3.5)]
    assert "saddle" in right.get_title(loc="right")
    assert left.get_title(loc="right") == ""


def test_sharpness_that_was_lost_is_not_drawn(tmp_path, drawn):
    hessian_sharpness({"all": {"trace": 5.0}, "head": {}}, tmp_path / "a.png", "t")
    left, right = drawn[0].axes
    assert [len(axes.containers[0]) for axes in (left, right)] == [0, 1]


def _rgba(colour):
    from matplotlib.colors import to_rgba

    return to_rgba(colour)
