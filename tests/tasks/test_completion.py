import os
import subprocess
import sysconfig

import pytest

from deitlt.cli import FLAGS, HYDRA_VERBS, PLAIN_VERBS, main
from deitlt.tasks.completion import SCRIPTS, own_words

VERBS = [*HYDRA_VERBS, *PLAIN_VERBS]
# Asks the function that the script makes as bash does, and prints a reply a line.
ASK = """eval "$(deitlt completion bash)"
COMP_LINE={line!r} COMP_POINT={point}
_deitlt deitlt
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def replies(line, breaks="="):
    """What bash would offer at the end of a line."""
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    script = f"COMP_WORDBREAKS={breaks!r}\n" + ASK.format(line=line, point=len(line))
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("deitlt tr", ["train "]),
        ("deitlt train experiment=dig", ["experiment=digits", "experiment=digits_paco"]),
        ("deitlt train student.drw.st", ["student.drw.start_epoch=", "student.drw.stop_mixing="]),
        ("deitlt train experiment=digits student/vi", ["student/views="]),
    ],
)
def test_bash_completes_verbs_choices_and_keys(line, offered):
    assert replies(line, breaks=" ") == offered


def test_where_words_end_at_an_equals_sign_the_value_alone_is_offered():
    assert replies("deitlt train trainer.precision=b") == ["bf16-mixed"]


def test_keys_are_those_of_the_choices_that_stand_before(capsys, monkeypatch):
    line = "deitlt train student/views=multicrop student.views.train.local_"
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["completion", "--query"]) == 0
    offered = capsys.readouterr().out.split()
    assert {"student.views.train.local_crops=", "student.views.train.local_size="} <= set(offered)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], {f"{verb} " for verb in VERBS}),
        (["list", "exp"], {"experiments"}),
        (["completion", "b"], {"bash"}),
        (["train", "--conf"], {"--config-path", "--config-name", "--config-dir"}),
        (["train", "experiment=digits,dem"], {"experiment=digits,demo"}),
        (["train", "experiment=teacher/inat"], {"experiment=teacher/inat18_ldam", "experiment=teacher/inat18_paco"}),
        (["train", "data=nothing"], set()),
    ],
)
def test_what_hydra_does_not_know_is_ours(words, offered):
    assert set(own_words(words, VERBS, FLAGS)) == offered


def test_keys_are_left_to_hydra():
    assert own_words(["train", "student.epo"], VERBS, FLAGS) is None
    assert own_words(["train", "seed=1"], VERBS, FLAGS) is None


@pytest.mark.parametrize("shell", SCRIPTS)
def test_each_shell_has_a_script(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "completion --query" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_an_unknown_shell_is_answered_with_one_sentence(words, capsys):
    assert main(["completion", *words]) == 2
    said = capsys.readouterr().err
    assert 'type eval "$(deitlt completion bash)", or zsh or fish.' in said
    assert ("is no shell" if words else "completion needs the name of a shell") in said


def test_completion_has_a_help(capsys):
    assert main(["completion", "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert all(shell in shown.out for shell in SCRIPTS)
