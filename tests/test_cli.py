import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from deitlt import __version__
from deitlt.cli import HYDRA_VERBS, PLAIN_VERBS, main
from deitlt.config.compose import config_dir

EXECUTABLE = Path(sysconfig.get_path("scripts")) / "deitlt"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITLT_DEBUG", raising=False)


@pytest.fixture
def complain(capfd, tmp_path):
    """Runs a command that cannot work, and answers with its one sentence."""

    def run(*words):
        capfd.readouterr()
        assert main(words) == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert list(tmp_path.iterdir()) == []
        return line

    return run


# What was typed -> what the sentence says: the value, and what to type.
WRONG = {
    "trian": ("'trian' is no verb", "did you mean 'train'"),
    "train student.epoch=3": ("student.epoch is no key", "did you mean 'student.epochs'"),
    "train student.drw=null student.drw.beta=0.9": (
        "student.drw.beta is no key beside what else was typed",
        "leave it out",
    ),
    "train data.imbalance_facter=0.01": ("data.imbalance_facter", "did you mean 'data.imbalance_factor'"),
    "train zzz=3": ("zzz is no key", "type deitlt list keys to see all."),
    "train +zzz=3": ("zzz is no key", "type deitlt list keys to see all."),
    "train ~zzz": ("zzz is no key", "type deitlt list keys to see all."),
    "train +seed=1": ("seed is a key already", "type seed=VALUE without the plus sign."),
    "train ~seed=4": ("seed has another value", "type ~seed for any."),
    "train ~data=nothing": ("data is another choice", "type ~data for any."),
    "train +experiment=digits": ("experiment is chosen already", "type experiment=NAME without the plus sign."),
    "train seed=1,2": ("seed=1,2 is several values", "type -m beside it for a job each."),
    "train experiment=digits,demo": ("experiment=digits,demo is several values", "for a job each."),
    "train stages=teacher,student": ("is several values", "for a job each, or stages=[teacher,student] for a list."),
    "train seed=choice(1,2)": ("seed=choice(1,2) is several values", "type -m beside it"),
    "train logger.wandb.project=x": (
        "logger.wandb.project is no key of what is chosen, logger=csv;",
        "type logger=wandb logger.wandb.project=x.",
    ),
    "train method=vit student.drw.start_epoch=2": (
        "student.drw is null with what is chosen, so student.drw.start_epoch=2 has no place",
        "type 'student.drw={start_epoch:2,beta:0.9999,stop_mixing:true}'.",
    ),
    "train student.transforms.train.local_crops=4": (
        "local_crops is no key of what",
        "type student/transforms=multicrop student.transforms.train.local_crops=4.",
    ),
    "train data.root=own": ("no key of what is chosen, data=digits;", "type data=folder data.root=own."),
    "train data.download=false": ("chosen, data=digits;", "type data=cifar10 data.download=false."),
    "inspect experiment=cifar10_lt_if100 data.on_broken=skip": (
        "data=cifar10;",
        "type data=folder data.on_broken=skip.",
    ),
    "train data=folder data.root=x data.train_list=y": ("data=folder;", "type data=lists data.train_list=y."),
    "evaluate checkpoint=run data.root=own": ("no key of a checkpoint's own data", "type data_root=own."),
    "train data.imbalance_factor=null data.imbalance_kind=step": ("makes no tail", "data.imbalance_factor=0.01"),
    "train data.groups=shots data.group_cuts=[1,2]": ("cuts nothing", "type data.groups=paper with it"),
    "train student/views=paper": ("student/views is called student/transforms now", "type student/transforms=paper."),
    "train student.views.train.flip=0": ("is called", "type student.transforms.train.flip=0."),
    "train student/view=paper": ("student/view is called student/transforms now",),
    "train student/modell=deit_tiny": ("student/modell is no group", "'student/model'"),
    "train data=cifar1O": ("data=cifar1O is no choice", "did you mean 'cifar10'"),
    "train student/transforms=multi": ("student/transforms=multi", "did you mean 'multicrop'?"),
    "train experiment=null": ("experiment=null is no choice", "type ~experiment"),
    "train experiment=cifar10_lt": ("experiment=cifar10_lt", "did you mean 'cifar10_lt_if"),
    "train student.epochs": ("'student.epochs' is no override", "KEY=VALUE"),
    "train student.epochs=[1": ("'student.epochs=[1'", "KEY=VALUE"),
    "train student.epochs=abc": ("student.epochs=abc is not a whole number", "type student.epochs="),
    "train data.download=maybe": ("data.download=maybe is not true or false",),
    "train stages=student": ("stages=student is not a list", "type stages="),
    "train trainer.precision=12": ("trainer.precision=12", "type one of 16-mixed, 32-true, auto, bf16-mixed."),
    "train seed=-1": ("seed=-1", "seed=0 or more"),
    "train student.epochs=null": ("student.epochs=null", "needed"),
    "train ~student.model": ("student.model is needed",),
    "train +student.modell=1": ("student.modell is no key", "did you mean 'student.model'"),
    "train --multirunn seed=0": ("--multirunn is no flag", "did you mean '--multirun'"),
    "evaluate": ("checkpoint has no value yet", "type checkpoint=RUN."),
    "predict images=here": ("checkpoint has no value yet", "type checkpoint=RUN."),
    "predict checkpoint=run": ("images has no value yet", "type images=FOLDER."),
    "train sweep=foo": ("sweep=foo is no choice", "type one of alpha, "),
    "train sweep=rho": ("sweep=rho is a sweep", "type deitlt train -m sweep=rho"),
    "evaluate checkpoint=. accelerator=gpu stage=baseline": ("holds no checkpoint", "type checkpoint=RUN"),
    "predict checkpoint=run images=here": ("There is no checkpoint run",),
    "predict checkpoint=run images=here top=0": ("top=0", "top=1 or more"),
    "report": ("required: RUN", "type deitlt report RUN"),
    "report run --to=file": ("--to=file", "type deitlt report RUN"),
    "report nowhere": ("nowhere holds no finished run", "deitlt train"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.items(), ids=WRONG)
def test_a_wrong_command_is_answered_with_one_sentence(words, said, complain):
    sentence = complain(*words.split())
    assert sentence.startswith("deitlt: ")
    for part in said:
        assert part in sentence


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train student.epoch=3", "did you mean 'student.epochs'"),
        ("train experiment=digits student.epochs=abc", "is not a whole number"),
        ("train data=folder data.root=nowhere", "is not a folder"),
    ],
)
def test_the_installed_command_shows_no_traceback(words, said, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "DEITLT_DEBUG"}
    command = [EXECUTABLE, *words.split()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []


TYPOS = [
    *("trian", "train student.epoch=3", "train data=cifar1O", "train student.epochs=abc", "evaluate"),
    *("report --to=file", "report nowhere", "workspace a b", "workspace a:b"),
]
HELP = ["list", "list keys", "completion bash", "train --help", "report --help", "workspace --help", "list --help"]
RUN = """
import contextlib, sys
from deitlt.cli import main
for words in sys.argv[1:]:
    code = 0
    with contextlib.suppress(SystemExit):  # argparse's help ends the process
        code = main(words.split())
    sys.stderr.write(f"{words}: {code}, {'torch' in sys.modules}\\n")
"""


@pytest.mark.parametrize(("asked", "code"), [(TYPOS, 2), (HELP, 0)], ids=["typos", "help"])
def test_neither_a_typo_nor_help_waits_for_torch(asked, code):
    done = subprocess.run([sys.executable, "-c", RUN, *asked], capture_output=True, text=True, check=True)
    answered = [line for line in done.stderr.splitlines() if not line.startswith("deitlt: ")]
    assert answered == [f"{words}: {code}, False" for words in asked]


def test_debugging_raises_what_the_sentence_was_made_of(monkeypatch):
    monkeypatch.setenv("DEITLT_DEBUG", "1")
    with pytest.raises(ValueError, match="trian"):
        main(["trian"])
    with pytest.raises(Exception, match=r"student\.epoch"):
        main(["train", "student.epoch=3"])


def test_the_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb}" in shown for verb in [*HYDRA_VERBS, *PLAIN_VERBS])


def test_without_a_verb_there_is_the_help_and_code_2(capsys):
    assert main([]) == 2
    assert "deitlt VERB" in capsys.readouterr().out


def test_the_help_of_a_verb_names_its_choices(capsys):
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "student/transforms batch, batch_small, multicrop, paper, small, three_augment" in shown
    assert "cifar10_lt_if100" in shown


@pytest.mark.parametrize(("verb", "has_recipe"), [("train", True), ("inspect", True), ("evaluate", False)])
def test_the_help_says_which_recipe_changes_the_defaults(verb, has_recipe, capsys):
    assert main([verb, "--help"]) == 0
    note = "experiment=digits unless another is named; it changes some of these: --cfg job shows all"
    assert (note in " ".join(capsys.readouterr().out.split())) == has_recipe


@pytest.mark.parametrize(
    ("told", "spins"), [({}, "1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")]
)
def test_torchs_threads_wait_politely_unless_told_otherwise(told, spins, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what is set is seen, and forgotten
    main(["--version"])
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_a_configuration_is_shown_with_its_overrides(capsys, tmp_path):
    assert main(["train", "experiment=digits", "student.epochs=7", "--cfg", "job"]) == 0
    assert "  epochs: 7\n" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_configurations_are_found_in_a_checkout():
    assert (config_dir() / "train.yaml").is_file()
    assert {f"{name}.yaml" for name, _ in HYDRA_VERBS.values()} <= {path.name for path in config_dir().iterdir()}


def test_a_users_own_folder_of_configurations_is_added(tmp_path, capsys):
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\ndefaults: [digits]\nseed: 17\n")
    words = ["train", "--config-dir", str(tmp_path / "own"), "experiment=mine", "--cfg", "job"]
    assert main(words) == 0
    assert "\nseed: 17\n" in capsys.readouterr().out


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "deitlt", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{__version__}\n"
