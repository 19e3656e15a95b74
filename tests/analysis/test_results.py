import csv
import math

import pytest

from deitlt.analysis import as_csv, finite, numbers, scalars

STUDENT = {
    "kind": "student",
    "epoch": 3,
    "split": "test",
    "images": 60,
    "attention_distance": {"unit": "pixels", "cls": [[1.0, 3.0], [5.0, 7.0]], "patches": [[2.0, 2.0], [4.0, 4.0]]},
    "rank": {"width": 8, "cls": {"components": [2, 3], "effective": [1.5, 2.5]}},
    "diversity": {
        "cosine_distance": {"all": 0.2},
        "disagreement": {"all": 10.0, "tail": 40.0},
        "per_block": [0.1, 0.3],
    },
    "winners": {"cls": 1, "dist": 0, "tie": 0, "classes": [{"class": 4, "cls": 90.0, "dist": 80.0, "winner": "cls"}]},
    "calibration": {"avg": {"all": 7.0}},
    "agreement": {"mixed": {"tail": 60.0}},
    "consistency": {"mixed": {"tail": 61.0}},
    "sharpness": {"head": {"eigenvalue": 70.0, "trace": 500.0, "trace_error": 9.0, "images": 50}},
    "seconds": {"pass": 0.1},
}


def test_curves_have_one_name_scheme():
    assert scalars(STUDENT) == {
        "analysis/distance/cls/block00": 2.0,
        "analysis/distance/cls/block01": 6.0,
        "analysis/distance/patches/block00": 2.0,
        "analysis/distance/patches/block01": 4.0,
        "analysis/rank/cls/block00": 2,
        "analysis/rank/cls/block01": 3,
        "analysis/effective_rank/cls/block00": 1.5,
        "analysis/effective_rank/cls/block01": 2.5,
        "analysis/diversity/cosine_distance/all": 0.2,
        "analysis/diversity/disagreement/all": 10.0,
        "analysis/diversity/disagreement/tail": 40.0,
        "analysis/diversity/cosine_distance/block00": 0.1,
        "analysis/diversity/cosine_distance/block01": 0.3,
        "analysis/winners/cls": 1,
        "analysis/winners/dist": 0,
        "analysis/winners/tie": 0,
        "analysis/calibration/avg/all": 7.0,
        "analysis/agreement/mixed/tail": 60.0,
        "analysis/consistency/mixed/tail": 61.0,
        "analysis/sharpness/eigenvalue/head": 70.0,
        "analysis/sharpness/trace/head": 500.0,
    }


def test_a_teachers_features_have_no_block():
    teacher = {"kind": "teacher", "rank": {"width": 64, "features": {"components": 20, "effective": 8.5}}}
    assert scalars(teacher) == {"analysis/rank/features": 20, "analysis/effective_rank/features": 8.5}


def test_rows_say_where_each_number_stands():
    found = numbers(STUDENT)
    assert ("attention_distance", "cls", 1, 0, None, 5.0) in found
    assert ("rank/effective", "cls", 1, None, None, 2.5) in found
    assert ("recall", "dist", None, None, "4", 80.0) in found
    assert ("sharpness", "trace", None, None, "head", 500.0) in found
    assert ("sharpness", "images", None, None, "head", 50) in found
    assert len(found) == 28


def test_a_number_that_was_lost_has_no_row():
    lost = {"sharpness": {"all": {"trace": 1.0}}, "rank": {"width": 8, "cls": {}}, "attention_distance": {"unit": "px"}}
    assert numbers(lost) == [("sharpness", "trace", None, None, "all", 1.0)]


def test_a_csv_row_says_on_which_images_its_number_was_measured():
    whole = STUDENT["sharpness"] | {"all": {"eigenvalue": 9.0, "images": 80}}
    rows = list(csv.DictReader(as_csv({**STUDENT, "sharpness": whole}).splitlines()))
    images = {(row["part"], row["split"], row["images"]) for row in rows}
    assert {("recall", "test", "60"), ("sharpness", "train", "80"), ("agreement", "", "")} <= images
    heads = [row for row in rows if (row["part"], row["token"], row["block"]) == ("attention_distance", "cls", "1")]
    assert [(row["head"], float(row["value"])) for row in heads] == [("0", 5.0), ("1", 7.0)]
    assert as_csv({}) == "part,token,block,head,group,value,split,images\n"


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
