import math

import pytest

from deitlt.analysis import finite


def test_what_is_finite_stays():
    analysis = {"kind": "student", "images": 3, "rank": {"cls": {"components": [1, 2], "effective": [1.0, 2.5]}}}
    assert finite(analysis) == analysis


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_is_absent_and_so_is_a_list_that_holds_it(value):
    found = finite({
        "calibration": {"cls": {"all": value, "tail": 3.0}},
        "attention_distance": {"unit": "pixels", "cls": [[1.0, value], [2.0, 3.0]], "dist": [[1.0]]},
        "winners": {"cls": 1, "classes": [{"class": 0, "cls": value}]},
    })  # fmt: skip
    assert found == {
        "calibration": {"cls": {"tail": 3.0}},
        "attention_distance": {"unit": "pixels", "dist": [[1.0]]},
        "winners": {"cls": 1, "classes": [{"class": 0}]},
    }
