import pytest


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("part=indx", "part=indx cannot be measured; did you mean 'index'?"),
        ("output=found.txt", "output=found.txt is no JSON file; type output=found.json."),
        ("rows=1", "rows=1 is too small; type rows=2 or more."),
        ("workers=0", "workers=0 is too small; type workers=1 or more."),
        ("repeats=0", "repeats=0 is too small; type repeats=1 or more."),
        ("row=3", "row"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(complain, word, sentence):
    assert sentence in complain("benchmark", word, output=None)
