import pytest

from deitlt.reports.scales import Scale, number, scale_of


def test_values_stand_where_they_belong_and_none_outside():
    scale = Scale(0.0, 10.0, 200.0, 0.0)
    assert scale.place(2.5) == pytest.approx(150.0)
    assert scale.place(-3.0) == 200.0
    assert scale.place(11.0) == 0.0


@pytest.mark.parametrize(
    ("values", "ends", "ticks"),
    [
        ([0.3, 97.6], (0.0, 100.0), [0, 25, 50, 75, 100]),
        ([14.3, 0.03], (0.0, 15.0), [0, 5, 10, 15]),
        ([5.0], (0.0, 6.0), [0, 2, 4, 6]),
        ([0.0, 0.0], (0.0, 1.0), [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_an_axis_ends_at_round_values_and_holds_all(values, ends, ticks):
    scale = scale_of(values, 0.0, 1.0)
    assert (scale.low, scale.high) == pytest.approx(ends)
    assert scale.ticks() == pytest.approx(ticks)


def test_a_logarithmic_axis_has_decades():
    scale = scale_of([0.002, 30.0], 0.0, 5.0, log=True)
    assert scale.log
    assert scale.ticks() == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10, 100][::2])
    assert scale.place(0.1) == pytest.approx(2.0)
    assert not scale_of([1.0, 30.0], 0.0, 5.0, log=True).log
    assert not scale_of([0.0, 30000.0], 0.0, 5.0, log=True).log


def test_what_is_not_finite_makes_no_axis():
    scale = scale_of([float("nan"), float("inf"), 3.0], 0.0, 1.0)
    assert (scale.low, scale.high) == (0.0, 3.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (86.12, "86.1"), (1234.5, "1,234"), (0.00025, "0.00025"), (1e-6, "1e-6"), (2.5e-5, "2.5e-5")],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text
