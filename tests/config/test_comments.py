import pytest

from deitlt.config.reference import comments, sentence_of, title
from deitlt.config.reference.groups import defaults_of

FILE = """# @package _global_
# Nets of Cao et al. (2019), as two lines
# say. And more.
defaults:
  - data: digits          # which images
  - override hydra/job_logging: none
  - student/model: deit   # the network
stages: [teacher]   # what is trained; a
                    # second line
plain: 3
# What the node below holds.
node:
  inner: "a # b"     # within
  flow: {one: 1}     # in braces
  deeper:
    last: null         # at the bottom
after: ${..node}   # behind an interpolation
"""


def test_each_key_has_its_own_comment():
    assert comments(FILE) == {
        "defaults.data": "which images",
        "defaults.student/model": "the network",
        "stages": "what is trained; a second line",
        "node": "What the node below holds.",
        "node.inner": "within",
        "node.flow": "in braces",
        "node.deeper.last": "at the bottom",
        "after": "behind an interpolation",
    }


def test_a_file_is_titled_by_its_first_comment():
    assert title(FILE) == "Nets of Cao et al. (2019), as two lines say. And more."
    assert sentence_of(title(FILE)) == "Nets of Cao et al. (2019), as two lines say."
    assert title("key: 1\n# later\n") == ""


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("The row of Kini et al., 2021: logits.", "The row of Kini et al., 2021: logits."),
        ("One. Two.", "One."),
        ("No full stop", "No full stop"),
        ('Reads data/. "Quoted" follows.', "Reads data/."),
    ],
)
def test_a_sentence_ends_before_a_capital(text, first):
    assert sentence_of(text) == first


def test_the_list_of_defaults_is_read_without_what_it_overrides(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text(FILE)
    assert defaults_of(path) == ["data", "student/model"]
