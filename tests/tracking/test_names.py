from deitlt.tracking import final_names

ACCURACY = {"dist": {"all": 80.0, "tail": 60.5}}


def test_final_accuracies_are_named_by_network_and_token():
    found = final_names({"raw": ACCURACY, "ema": ACCURACY}, "raw", names_tokens=True)
    assert found == {
        "final/dist/all": 80.0,
        "final/dist/tail": 60.5,
        "final/ema/dist/all": 80.0,
        "final/ema/dist/tail": 60.5,
    }


def test_a_teacher_has_one_answer_without_a_name():
    assert final_names({"raw": {"cls": {"tail": 60.5}}}, "raw", names_tokens=False) == {"final/tail": 60.5}
