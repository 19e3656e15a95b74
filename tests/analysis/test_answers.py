import math

import torch

from deitlt.analysis import FiniteAnswers, without_decisions
from deitlt.types import TokenLogits

WHOLE, BROKEN = torch.zeros(2, 3), torch.tensor([[0.0, 1.0, 2.0], [0.0, math.nan, 1.0]])
ANALYSIS = {
    "rank": {"width": 8},
    "winners": {"cls": 1},
    "diversity": {"disagreement": {"all": 10.0}, "per_block": [0.1]},
    "calibration": {"cls": {"all": 1.0}, "dist": {"all": 2.0}, "avg": {"all": 3.0}},
}


def test_one_answer_that_is_no_number_breaks_its_token():
    answers = FiniteAnswers()
    answers.update(TokenLogits(WHOLE, WHOLE))
    assert answers.broken == set()
    answers.update(TokenLogits(WHOLE, BROKEN))
    answers.update(TokenLogits(WHOLE, WHOLE))
    assert answers.broken == {"dist"}
    alone = FiniteAnswers()
    alone.update(TokenLogits(WHOLE + math.inf, None))
    assert alone.broken == {"cls"}


def test_what_was_counted_of_a_broken_tokens_decisions_is_none():
    assert without_decisions(ANALYSIS, set()) == ANALYSIS
    found = without_decisions(ANALYSIS, {"dist"})
    assert found["rank"] == ANALYSIS["rank"]
    assert found["calibration"]["cls"] == {"all": 1.0}
    assert math.isnan(found["calibration"]["dist"])
    assert math.isnan(found["calibration"]["avg"])
    assert math.isnan(found["diversity"]["disagreement"])
    assert found["diversity"]["per_block"] == [0.1]
    assert math.isnan(found["winners"])
    assert without_decisions({"rank": 1}, {"dist"}) == {"rank": 1}
