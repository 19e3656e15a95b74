import os
import pty
import select
import shutil
import signal
import subprocess
import sysconfig
import time

import pytest

from deitlt.cli import HYDRA_VERBS, PLAIN_VERBS, main
from deitlt.commands.completion import SCRIPTS, own_words

WITH_DEITLT = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
VERBS = [*HYDRA_VERBS, *PLAIN_VERBS]
# Asks the function that the script makes as bash does, and prints a reply a line.
ASK = """eval "$(deitlt completion bash)"
COMP_LINE={line!r} COMP_POINT={point}
_deitlt deitlt
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def replies(line, breaks="="):
    """What bash would offer at the end of a line."""
    script = f"COMP_WORDBREAKS={breaks!r}\n" + ASK.format(line=line, point=len(line))
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, env={**os.environ, "PATH": WITH_DEITLT}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("deitlt tr", ["train "]),
        ("deitlt train experiment=dig", ["experiment=digits", "experiment=digits_paco"]),
        ("deitlt train student.drw.st", ["student.drw.start_epoch=", "student.drw.stop_mixing="]),
        ("deitlt train experiment=digits student/tr", ["student/transforms="]),
    ],
)
def test_bash_completes_verbs_choices_and_keys(line, offered):
    assert replies(line, breaks=" ") == offered


def test_where_words_end_at_an_equals_sign_the_value_alone_is_offered():
    assert replies("deitlt train trainer.precision=b") == ["bf16-mixed"]


def test_keys_are_those_of_the_choices_that_stand_before(capsys, monkeypatch):
    line = "deitlt train student/transforms=multicrop student.transforms.train.local_"
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["completion", "--query"]) == 0
    offered = capsys.readouterr().out.split()
    assert {"student.transforms.train.local_crops=", "student.transforms.train.local_size="} <= set(offered)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], {f"{verb} " for verb in VERBS}),
        (["list", "exp"], {"experiments "}),
        (["list", "experiments", "demo", ""], set()),
        (["completion", "b"], {"bash "}),
        (["train", "experiment=teacher/inat"], {"experiment=teacher/inat18_ldam", "experiment=teacher/inat18_paco"}),
        (["train", "data=nothing"], set()),
        (["train", "protocol="], {"protocol=last", "protocol=val", "protocol=paper"}),
        (["train", "data.download="], {"data.download=true", "data.download=false"}),
        (["train", "logger.wandb.mode=o"], {"logger.wandb.mode=online", "logger.wandb.mode=offline"}),
    ],
)
def test_what_hydra_does_not_know_is_ours(words, offered):
    assert set(own_words(words, VERBS)) == offered


def test_keys_are_left_to_hydra():
    assert own_words(["train", "student.epo"], VERBS) is None


@pytest.mark.parametrize("words", [["evaluate", "checkpoint="], ["train", "data.root=x"]])
def test_where_a_file_may_stand_the_shell_is_left_to_find_it(words):
    assert not own_words(words, VERBS)


# A line, and what its last word becomes: quoted as the shell wants it.
COMPLETED = [
    ("deitlt trai", "train"),
    ("deitlt train experiment=digits_", "experiment=digits_paco"),
    ("deitlt evaluate checkpoint=my", r"checkpoint=my\ run/"),
]


@pytest.fixture
def shells(tmp_path, monkeypatch):
    """The environment of a shell that finds `deitlt`, and stands beside a folder `my run`."""
    (tmp_path / "my run").mkdir()
    monkeypatch.chdir(tmp_path)
    return os.environ | {"PATH": WITH_DEITLT, "HOME": str(tmp_path), "TERM": "dumb"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_words_and_files(shells):
    asked = "; ".join(f"complete -C {line!r} | string escape --no-quoted" for line, _ in COMPLETED)
    command = ["fish", "--no-config", "-c", f"deitlt completion fish | source; {asked}"]
    done = subprocess.run(command, env=shells, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [word for _, word in COMPLETED]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(("line", "word"), COMPLETED)
def test_zsh_completes_words_and_files(line, word, shells):
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], shells)
    try:
        os.write(terminal, b"eval \"$(deitlt completion zsh)\"; echo re''ady\n")
        seen = read_until(terminal, "ready")
        assert "ready" in seen
        os.write(terminal, f"{line}\t".encode())
        assert f"{line.rpartition(' ')[0]} {word}" in read_until(terminal, word)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def read_until(terminal, text):
    """What a terminal shows, bells apart, until a text is there, or for twenty seconds."""
    shown, end = "", time.monotonic() + 20
    while text not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode().replace("\a", "")
    return shown


@pytest.mark.parametrize("shell", SCRIPTS)
def test_each_shell_has_a_script(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "completion --query" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"), [([], "required: shell"), (["tcsh"], "'tcsh'"), (["bash", "zsh"], "unrecognized arguments: zsh")]
)
def test_an_unknown_shell_is_answered_with_one_sentence(words, said, capsys):
    assert main(["completion", *words]) == 2
    sentence = capsys.readouterr().err
    assert sentence.endswith('type eval "$(deitlt completion bash)", or zsh or fish.\n')
    assert said in sentence
