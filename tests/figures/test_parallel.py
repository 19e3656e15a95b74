import math

import pytest
from PIL import Image

from deitlt.figures.parallel import _axis, parallel_coordinates


def test_an_axis_of_numbers_is_to_scale():
    assert list(_axis(["0", "1", "4"]).places) == [0, 0.25, 1]
    assert _axis(["0", "1", "4"]).ticks == {0: "0", 0.25: "1", 1: "4"}


def test_numbers_far_apart_are_on_a_logarithmic_axis():
    assert list(_axis(["0.001", "0.01", "0.1"]).places) == pytest.approx([0, 0.5, 1])


def test_names_are_evenly_spaced_and_one_value_alone_stands_in_the_middle():
    assert list(_axis(["b", "a", "c", "a"]).places) == [0.5, 0, 1, 0]
    assert list(_axis(["ldam", "ldam"]).places) == [0.5, 0.5]
    assert list(_axis(["3", "3"]).places) == [0.5, 0.5]


def test_what_is_no_finite_number_is_a_name():
    assert set(_axis(["nan", "1"]).ticks.values()) == {"nan", "1"}


def test_many_different_numbers_have_a_few_ticks_and_the_ends_are_among_them():
    axis = _axis([str(x / 10) for x in range(30)])
    assert len(axis.ticks) == 5
    assert (axis.ticks[0.0], axis.ticks[1.0]) == ("0", "2.9")
    assert all(math.isfinite(place) for place in axis.places)


@pytest.mark.parametrize("stopped", [[False, True, False], [True, True, True]])
def test_the_picture_is_as_wide_as_there_are_settings(tmp_path, stopped):
    settings = {"student.optimizer.lr": ["1e-4", "1e-3", "1e-2"], "teacher/loss": ["ldam", "ldam", "ce"]}
    wide = parallel_coordinates(settings, [1.0, 3.0, 2.0], "val/student/avg/tail", stopped, tmp_path / "wide.png")
    narrow = parallel_coordinates({"seed": ["0", "1"]}, [1.0, 1.0], "x", [False, False], tmp_path / "narrow.png")
    assert Image.open(wide).width > Image.open(narrow).width


def test_the_best_line_follows_the_direction(tmp_path):
    pictures = [
        parallel_coordinates({"seed": ["0", "1"]}, [1.0, 2.0], "x", [False] * 2, tmp_path / f"{best}.png", best)
        for best in ("maximize", "minimize")
    ]
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


def test_ticks_have_the_digits_that_tell_them_apart():
    assert _axis([str(10.25 + x / 40) for x in range(11)]).ticks.keys() == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert list(_axis([str(10.25 + x / 40) for x in range(11)]).ticks.values())[::4] == ["10.25", "10.5"]
    assert list(_axis([str(86 + x / 1000) for x in range(11)]).ticks.values())[::2] == ["86", "86.005", "86.01"]
    assert next(iter(_axis([str(10.0**x) for x in range(-5, 5)]).ticks.values())) == "1e-05"


@pytest.mark.parametrize(("stopped", "best"), [([False] * 3, 2), ([False, False, True], 1), ([True] * 3, None)])
def test_the_legend_has_the_best_lines_colour(tmp_path, drawn, stopped, best):
    parallel_coordinates({"seed": ["0", "1", "2"]}, [1.0, 2.0, 3.0], "x", stopped, tmp_path / "a.png")
    thick = [line for line in drawn[0].axes[0].lines if line.get_linewidth() == 3.4]
    handles = {handle.get_label(): handle for handle in drawn[0].legends[0].legend_handles}
    assert ("best" in handles) == bool(thick) == (best is not None)
    assert [handles["best"].get_color() for _ in thick] == [line.get_color() for line in thick]
    assert [line.get_ydata()[-1] for line in thick] == ([] if best is None else [best / 2])
