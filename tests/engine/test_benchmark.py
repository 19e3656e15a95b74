import pytest


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("part=indx", "part=indx is no choice; type one of profile, training."),
        ("output=found.txt", "output=found.txt is no JSON file; type output=found.json."),
        ("generated=1", "generated=1 is not 2 or more; type generated=2 or more."),
        ("repeats=0", "repeats=0 is not 1 or more; type repeats=1 or more."),
        ("training.measured=[]", "training.measured=[] names no stage; type training.measured=[student], say."),
        ("compare=tim", "compare=tim is no choice; did you mean 'timm'?"),
        ("row=3", "row"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(complain, word, sentence):
    assert sentence in complain("benchmark", word, output=None)
