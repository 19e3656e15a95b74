import copy

import pytest

_METRICS = {
    "experiment": "digits",
    "seed": 0,
    "teacher": {"all": 95.04, "balanced": 95.04, "head": 99.0, "mid": 95.2, "tail": 90.0, "top5": 99.9},
    "student": {
        "cls": {"all": 73.8, "balanced": 73.8, "head": 99.4, "mid": 80.0, "tail": 27.2, "top5": 95.0},
        "dist": {"all": 86.1, "balanced": 86.1, "head": 94.0, "mid": 90.0, "tail": 69.3, "top5": 98.0},
        "avg": {"all": 81.0, "balanced": 81.0, "head": 98.0, "mid": 88.0, "tail": 48.9, "top5": 97.0},
    },
    "student_ema": {"cls": {"all": 74.0, "balanced": 74.0, "head": 99.0, "mid": 80.5, "tail": 28.0}},
    "baseline": {"cls": {"all": 74.4, "balanced": 74.4, "head": 99.4, "mid": 81.0, "tail": 27.6}},
    "protocol": "last",
    "groups": {"head": [0, 1], "mid": [2, 3], "tail": [4]},
    "counts": [1200, 60, 30, 12, 1],
    "class_names": ["a", "b", "c", "d", "e"],
    "recipe_differences": ["student.epochs is 150, the recipe says 1200"],
    "seconds": {"teacher": 20.0, "student": 35.0},
}


@pytest.fixture
def metrics():
    """A run's metrics.json, free to change."""
    return copy.deepcopy(_METRICS)
