from pathlib import Path

import pytest

from deitlt.cli import run_to_its_end
from deitlt.errors import ConfigError, Preempted


@pytest.fixture(autouse=True)
def no_debugging(monkeypatch):
    monkeypatch.delenv("DEITLT_DEBUG", raising=False)


def raising(error):
    """A command that ends in an error."""

    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (Preempted(15), 75), (ConfigError("x=1 is no x"), 2)]
)
def test_each_end_has_its_code(error, code):
    assert run_to_its_end(raising(error), "train") == code


def test_a_command_that_ends_well_has_its_own_code():
    assert run_to_its_end(lambda: 1, "train") == 1


def test_what_the_user_did_wrong_is_one_sentence(capsys):
    run_to_its_end(raising(ConfigError("x=1 is no x; type x=2.")), "train")
    assert capsys.readouterr().err == "deitlt: x=1 is no x; type x=2.\n"


def test_debugging_shows_the_error_itself(monkeypatch):
    monkeypatch.setenv("DEITLT_DEBUG", "1")
    with pytest.raises(ConfigError, match="x=1"):
        run_to_its_end(raising(ConfigError("x=1 is no x")), "train")


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "a file of ours"), ValueError("a bug")])
def test_what_only_a_bug_can_do_is_not_hidden(error):
    with pytest.raises(type(error)):
        run_to_its_end(raising(error), "train")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a file system that takes no folders")
def test_a_folder_that_cannot_be_made_is_answered_with_one_sentence(capsys):
    assert run_to_its_end(lambda: Path("/proc/x/y").mkdir(parents=True), "export") == 2
    assert capsys.readouterr().err.startswith("deitlt: /proc/x: No such file or directory; ")


def test_a_folder_forgotten_by_a_bug_is_not_hidden(tmp_path):
    with pytest.raises(FileNotFoundError):
        run_to_its_end(lambda: (tmp_path / "none" / "y").mkdir(), "export")


@pytest.mark.parametrize(
    ("verb", "advice"),
    [
        ("train", "another path, as paths.output_dir=FOLDER."),
        ("export", "another path, as output=FOLDER."),
        ("report", "another path."),
        ("", "another path."),
    ],
)
def test_another_path_is_named_as_the_verb_has_it(verb, advice, capsys):
    assert run_to_its_end(raising(NotADirectoryError(20, "Not a directory", "README.md/x.html")), verb) == 2
    assert capsys.readouterr().err.endswith(f"; make room or give way there, or type {advice}\n")
