import numpy as np
import pytest

from deitlt.data.slices import class_folders, first_repeat, gathered, hashes, short_names


def packed(*words):
    text = np.frombuffer("".join(words).encode(), np.uint8)
    return text, np.cumsum([0, *map(len, words)])


def test_gathered_keeps_the_slices_and_their_borders():
    text = np.frombuffer(b"ab 1\ncde 2\nf 3", np.uint8)
    taken, borders = gathered(text, np.array([0, 5, 11]), np.array([2, 8, 12]))
    assert taken.tobytes() == b"abcdef"
    assert borders.tolist() == [0, 2, 5, 6]


def test_equal_slices_and_no_others_have_equal_hashes():
    words = ["", "a", "b", "ab", "ba", "aa", "aaa", "\0", "\0\0", "a" * 90, "a" * 91, "ab"]
    text, borders = packed(*words)
    found = hashes(text, borders[:-1], borders[1:]).tolist()
    assert found[3] == found[11]
    assert len(set(found)) == len(set(words))


def test_hashes_of_many_paths_differ():
    text, borders = packed(*(f"train/{i % 97}/{i:x}.jpg" for i in range(50_000)))
    assert len(np.unique(hashes(text, borders[:-1], borders[1:]))) == 50_000


def test_the_earliest_repeat_is_named():
    assert first_repeat(*packed("a", "b", "c")) is None
    assert first_repeat(*packed("x", "yy", "a", "yy", "x", "a")) == (1, 3)


@pytest.mark.parametrize(
    ("paths", "labels", "folders"),
    [
        (["t/cat/1", "t/dog/1", "t/cat/2"], [1, 0, 1], ["t/dog", "t/cat"]),
        (["t/cat/1", "t/dog/1", "t/cow/2"], [1, 0, 1], None),
        (["t/cat/1", "t/cat/2"], [0, 1], None),
        (["cat", "t/dog/2"], [0, 1], None),
        (["cat", "dog"], [0, 1], None),
        (["/cat", "t/dog/2"], [0, 1], None),
        (["t/cat/1", "dog"], [0, 1], None),
    ],
)
def test_folders_name_classes_where_each_has_its_own(paths, labels, folders):
    assert class_folders(*packed(*paths), np.array(labels)) == folders


def test_a_folder_that_is_no_text_names_no_class():
    text = np.frombuffer(b"\xff/1x/2", np.uint8)
    assert class_folders(text, np.array([0, 3, 6]), np.array([0, 1])) is None


def test_names_are_as_short_as_they_can_be():
    folders = ["d/a/airfield", "d/c/cabin/outdoor", "d/h/hut/outdoor", "outdoor"]
    assert short_names(folders) == ("airfield", "cabin/outdoor", "hut/outdoor", "outdoor")
    assert short_names(["x/1", "y/1", "1"]) == ("x/1", "y/1", "1")
