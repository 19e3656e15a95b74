import numpy as np
import pytest

from deitlt.data import lists, slices
from deitlt.data.file_index import FileIndex
from deitlt.data.lists import parse_list
from deitlt.errors import DataError


@pytest.fixture(autouse=True, params=["at once", "line by line"])
def block(request, monkeypatch):
    """Whatever is told of a list has to be so when it is read and hashed in blocks of a line, too."""
    if request.param == "line by line":
        monkeypatch.setattr(lists, "_AT_ONCE", 1)
        monkeypatch.setattr(slices, "_AT_ONCE", 1)


def parsed(tmp_path, content):
    """The (path, label)s of a list and its classes' names."""
    index = FileIndex(parse_list(tmp_path / "list.txt", content))
    rows = [(index.path(i), int(label)) for i, label in enumerate(index.table.labels)]
    return rows, index.table.names


def test_a_published_list(tmp_path):
    rows, names = parsed(tmp_path, b"train/n02/n02_7.JPEG 1\ntrain/n01/n01_190.JPEG 0\ntrain/n02/n02_9.JPEG 1\n")
    assert rows == [("train/n02/n02_7.JPEG", 1), ("train/n01/n01_190.JPEG", 0), ("train/n02/n02_9.JPEG", 1)]
    assert names == ("n01", "n02")


@pytest.mark.parametrize(
    "content",
    [
        b"a/1.jpg 0\r\nb/2.jpg 12\r\n",  # Windows's line ends read as others
        b"a/1.jpg 0\nb/2.jpg 12",
        b"\xef\xbb\xbfa/1.jpg 0\n\n  \nb/2.jpg\t12  \n\n",
        b"a/1.jpg   0\r\n\r\nb/2.jpg \t 012",
    ],
)
def test_line_ends_blanks_and_empty_lines_do_not_matter(tmp_path, content):
    assert parsed(tmp_path, content) == ([("a/1.jpg", 0), ("b/2.jpg", 12)], ())


def test_a_path_may_hold_spaces_and_any_script(tmp_path):
    rows, _ = parsed(tmp_path, "my cats/1 (2).jpg 0\nkäfer/猫.jpg 1\n".encode())
    assert rows == [("my cats/1 (2).jpg", 0), ("käfer/猫.jpg", 1)]


def test_a_path_that_starts_here_is_that_without_it(tmp_path):
    rows, _ = parsed(tmp_path, b"./a/1.jpg 0\na/2.jpg 0\n././b/3.jpg 1\n.//c/4.jpg 1\n../d/5.jpg 1\n.e.jpg 1\n")
    assert [path for path, _ in rows] == ["a/1.jpg", "a/2.jpg", "b/3.jpg", ".//c/4.jpg", "../d/5.jpg", ".e.jpg"]
    assert parsed(tmp_path, b"./a/1.jpg 0\na/2.jpg 0\nb/1.jpg 1\n")[1] == ("a", "b")


def test_a_path_that_is_no_unicode_is_kept_byte_by_byte(tmp_path):
    rows, _ = parsed(tmp_path, b"caf\xe9/1.jpg 0\n")
    assert rows[0][0].encode(errors="surrogateescape") == b"caf\xe9/1.jpg"


def test_a_long_list_equals_a_plain_reading_of_it(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"d{rng.integers(40)}/{'x' * rng.integers(30)}{i}.jpg", int(rng.integers(1000))) for i in range(3000)]
    assert parsed(tmp_path, "".join(f"{p} {c}\n" for p, c in rows).encode())[0] == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"list\.txt lists no image; give it a line 'path label'"),
        (b"\r\n  \n", r"list\.txt lists no image"),
        (b"a.jpg 0\nb.jpg -1\n", r"list\.txt, line 2: the label -1 is negative; number the classes from 0\."),
        (b"a.jpg 0\n\nb.jpg\n", r"line 3: 'b\.jpg' is no line 'path label'"),
        (b"a.jpg,0\n", r"line 1: 'a\.jpg,0' is no line"),
        (b"a.jpg 0\nb.jpg one\n", r"line 2: 'b\.jpg one' is no line"),
        (b"a.jpg 0\nb.jpg 1.0\n", r"line 2: 'b\.jpg 1\.0' is no line"),
        (b"a.jpg 0\nb.jpg 9999999999\n", r"line 2: 'b\.jpg 9999999999' is no line"),
        (b"a.jpg 0\n 7\n", r"line 2: ' 7' is no line"),
        (b"a.jpg 0\rb.jpg 1\n", r"line 1: 'a\.jpg 0\\rb\.jpg 1' is no line"),
        ("a.jpg 0\n".encode("utf-16"), r"line 1: .* is no line"),
        (b"path label\na.jpg 0\n", r"line 1: 'path label' is a header, and a list has none, .*; remove it\."),
        (b"\n# file\tclass_id\na.jpg 0\n", r"line 2: '# file\\tclass_id' is a header"),
        (b"path,label\na.jpg,0\n", r"line 1: 'path,label' is a header, .* such as 'train/cat/1\.jpg 0'; remove it"),
        (b"a.jpg 0\nb jpg\n", r"line 2: 'b jpg' is no line"),
        (b"a.jpg 0\nb.jpg 1\n./a.jpg 0\n", r"lists 'a\.jpg' twice, in the lines 1 and 3"),
        (b"a.jpg 0\n\nb.jpg 1\na.jpg 1\n", r"lists 'a\.jpg' twice, in the lines 1 and 4; remove one"),
    ],
)
def test_what_is_no_list_is_refused_in_one_sentence(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        parse_list(tmp_path / "list.txt", content)
    assert "\n" not in str(caught.value)


def test_classes_without_a_folder_of_their_own_have_no_name(tmp_path):
    assert parsed(tmp_path, b"all/1.jpg 0\nall/2.jpg 1\n")[1] == ()
    assert parsed(tmp_path, b"cat/1.jpg 0\ndog/2.jpg 2\n")[1] == ()
    assert parsed(tmp_path, b"cat/1.jpg 0\ncow/1.jpg 0\ndog/2.jpg 1\n")[1] == ()
