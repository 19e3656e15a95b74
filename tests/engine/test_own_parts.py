"""Parts of the user's own, from one file beside the configurations or from a plugin, in every verb."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image

import deitlt
from deitlt.api import Result
from deitlt.cli import main
from deitlt.config import trust as trust_module
from deitlt.errors import CheckpointError, ConfigError

MODULE = """
import os
from os import system
from functools import partial

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.nn import functional as F

import deitlt.data.datasets as datasets
from deitlt.data import ShuffledSampler, register_dataset
from deitlt.modules import TeacherModule
from deitlt.transforms import weak_transform
from deitlt.types import TokenLogits


class Focal(nn.Module):
    def __init__(self, gamma=1.0, mean=False):
        super().__init__()
        self.gamma, self.mean = gamma, mean

    def forward(self, logits, targets):
        logs = logits.log_softmax(dim=1)
        targets = F.one_hot(targets, logits.shape[1]) if targets.ndim == 1 else targets
        values = -(targets * (1 - logs.exp()) ** self.gamma * logs).sum(dim=1)
        return values.mean() if self.mean else values


class Small(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.body(images))


class Two(Small):
    tokens = ("cls", "dist")

    def __init__(self, num_classes, width=8):
        super().__init__(num_classes, width)
        self.head_dist = nn.Linear(width, num_classes)

    def forward(self, images):
        features = self.body(images)
        return TokenLogits(self.head(features), self.head_dist(features))


class Sampler(ShuffledSampler):
    pass


class Sgd(torch.optim.SGD):
    pass


class Method(TeacherModule):
    def training_step(self, batch, batch_idx):
        return 2 * super().training_step(batch, batch_idx)


class Note(L.Callback):
    def on_train_start(self, trainer, module):
        print(f"note: {trainer.world_size} {type(module).__name__}")


class Rows(Logger):
    def __init__(self, save_dir, file="rows.txt"):
        super().__init__()
        self.file = os.path.join(save_dir, file)

    name = version = property(lambda self: "rows")

    def log_hyperparams(self, *args, **kwargs):
        pass

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        self._write("metrics", metrics["epoch"], *metrics)

    def add_summary(self, values):
        self._write("summary", *values)

    def add_pictures(self, pictures):
        self._write("pictures", *pictures)

    def add_table(self, name, rows):
        self._write("table", name)

    def finish(self, exit_code):
        self._write("end", exit_code)

    def _write(self, *words):
        with open(self.file, "a") as file:
            print(*words, file=file)


def transform(image_size, normalisation, **options):
    return weak_transform(image_size, normalisation, **options)


def _private(*args):
    raise AssertionError


def read(request):
    return datasets.get_dataset("digits").read(request)


digits = datasets.get_dataset("digits")
register_dataset(datasets.DatasetSpec("mine", read, digits.image_size, digits.normalisation, None, "digits again"))
"""
CHOICES = {
    "teacher/loss/focal": "_target_: ownparts.Focal\ngamma: 2.0\n",
    "teacher/loss/mean": "_target_: ownparts.Focal\nmean: true\n",
    "teacher/loss/torchs": "_target_: torch.nn.CrossEntropyLoss\nreduction: none\n",
    "student/loss/focal": "_target_: ownparts.Focal\ngamma: 2.0\n",
    "teacher/model/small": "_target_: ownparts.Small\nwidth: 4\n",
    "student/model/two": "_target_: ownparts.Two\nwidth: 4\n",
    "student/model/logits": "_target_: ownparts.Small\n",
    "data/sampler/mine": "_target_: ownparts.Sampler\n_partial_: true\n",
    "teacher/optimizer/mine": "_target_: ownparts.Sgd\nlr: 0.1\n",
    "teacher/transforms/mine": (
        "train: {_target_: ownparts.transform, _partial_: true}\nmixing: null\n"
        "evaluation: {_target_: deitlt.transforms.evaluation_transform, _partial_: true, crop_share: 1.0}\n"
    ),
}
NOTE = "+{}.callbacks.note._target_=ownparts.Note"
# Part -> what chooses it for a teacher alone.
PARTS = {
    "loss": "teacher/loss=focal",
    "torch's loss": "teacher/loss=torchs",
    "network": "teacher/model=small",
    "sampler": "data/sampler=mine",
    "optimizer": "teacher/optimizer=mine",
    "transform": "teacher/transforms=mine",
    "method": "teacher.module._target_=ownparts.Method",
    "callback": NOTE.format("teacher"),
    "data set": "data.name=mine",
    "logger": "+logger.rows._target_=ownparts.Rows",
    "trainer flag": "+trainer.limit_train_batches=2",
}
ALL = (
    "teacher/model=small",
    "student/model=two",
    "teacher/loss=focal",
    "student/loss=focal",
    NOTE.format("student"),
    PARTS["logger"],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder: one module, and a choice for each of its parts."""
    place = tmp_path_factory.mktemp("own")
    (place / "ownparts.py").write_text(MODULE)
    for name, text in CHOICES.items():
        file = place / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return place


@pytest.fixture
def typed(folder):
    """What is typed for each command; nothing of it is left for the next test."""
    before = sys.path[:]
    yield ("--config-dir", str(folder), "trust=[ownparts]")
    sys.path[:] = before
    trust_module.trust([])


@pytest.fixture
def tiny(tiny):
    """Without the sizes of a transformer, which a network of one's own has not."""
    return tuple(word for word in tiny if not word.startswith("student.model."))


def interrupted(run, stage):
    """The run as it was before its last stage was tested."""
    for file in (run / "metrics.json", run / stage / "result.json"):
        file.unlink()


@pytest.mark.parametrize("words", PARTS.values(), ids=PARTS)
def test_a_part_of_ones_own_trains_resumes_and_is_evaluated(words, typed, tiny, tmp_path, capfd):
    run = tmp_path / "run"
    assert main(["train", *typed, *tiny, "stages=[teacher]", words, f"paths.output_dir={run}"]) == 0, capfd.readouterr()
    found = json.loads((run / "metrics.json").read_text())["teacher"]
    interrupted(run, "teacher")
    trust_module.trust([])
    if "limit" not in words and "torchs" not in words and words != "data.name=mine":
        assert main(["train", f"resume={run}"]) == 2
        assert "type trust=[ownparts] beside it" in capfd.readouterr().err
    assert main(["train", *typed, f"resume={run}"]) == 0, capfd.readouterr()
    assert json.loads((run / "metrics.json").read_text())["teacher"] == found
    assert main(["evaluate", *typed, f"checkpoint={run}", "stage=teacher", f"paths.output_dir={tmp_path}/e"]) == 0
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["teacher"]["all"] == pytest.approx(found["all"])


def test_a_logger_of_ones_own_gets_each_epoch_and_what_it_has_room_for(typed, tiny, tmp_path, capfd):
    run, rows = tmp_path / "run", "teacher/rows.txt"
    words = (*typed, *tiny, "stages=[teacher]", PARTS["logger"], "logger.rows.file=", f"paths.output_dir={run}")
    assert main(["train", *words]) == 2
    assert "did you mean" not in (said := capfd.readouterr().err)
    assert main(["train", *(word.replace("logger.rows.file=", "+logger.rows.file=rows.txt") for word in words)]) == 0, (
        said
    )
    lines = [line.split() for line in (run / rows).read_text().splitlines()]
    assert [line[0] for line in lines] == ["pictures", *["metrics"] * 3, "summary", "table", "table", "pictures", "end"]
    assert [line[1] for line in lines[1:4]] == ["0", "1", "2"]
    assert {"train/loss", "speed/epoch_seconds"} <= set(lines[1])
    assert (lines[0][1:], lines[5][1:], lines[-1][1:]) == (["pictures/views"], ["per_class"], ["0"])
    interrupted(run, "teacher")
    assert main(["train", *typed, f"resume={run}"]) == 0
    again = [line.split() for line in (run / rows).read_text().splitlines()[len(lines) :]]
    assert [line[1] for line in again if line[0] == "metrics"] == ["2"]  # the test, all else was done


def test_own_networks_go_through_every_verb(typed, tiny, tmp_path, capfd):
    run, image = tmp_path / "run", tmp_path / "image.png"
    assert main(["train", *typed, *tiny, *ALL, f"paths.output_dir={run}"]) == 0, capfd.readouterr()
    assert "note: 1 StudentModule" in capfd.readouterr().out
    Image.new("RGB", (16, 16), "white").save(image)
    asked = (*typed, f"checkpoint={run}")
    small = ("images=20", "agreement.images=20", "sharpness.images=10", "sharpness.products=2", "sharpness.probes=1")
    assert main(["predict", *asked, f"images={image}", f"output={tmp_path}/p.csv"]) == 0
    assert main(["export", *asked, "formats=[safetensors]", f"output={tmp_path}/x"]) == 0
    assert main(["analyze", *asked, "stage=all", f"folder={tmp_path}/a", *small]) == 0
    assert main(["report", str(run), "--html", str(tmp_path / "page.html")]) == 0
    assert "Two (width 4)" in (tmp_path / "page.html").read_text()
    assert type(Result(run, ["ownparts"]).load().network).__name__ == "Two"
    with pytest.raises(CheckpointError, match=r"type trust=\[ownparts\] beside it"):  # trusted before, by others
        deitlt.load(run)
    again = deitlt.load(run, trust=["ownparts"]).evaluate(out=tmp_path / "again", num_workers=0)
    assert again.metrics["student"] == json.loads((run / "metrics.json").read_text())["student"]
    with pytest.raises(CheckpointError, match=r"type trust=\[ownparts\] beside it"):
        deitlt.evaluate(run, out=tmp_path / "refused")
    with pytest.raises(CheckpointError, match=r"model\.safetensors asks for 'ownparts\.Two'"):
        deitlt.load(tmp_path / "x")
    exported = deitlt.load(tmp_path / "x", trust=["ownparts"]).network.state_dict()
    assert all(
        torch.equal(exported[name], value)
        for name, value in Result(run, ["ownparts"]).load().network.state_dict().items()
    )
    analysis = json.loads((tmp_path / "a" / "student" / "analysis.json").read_text())
    assert "calibration" in analysis
    assert "attention_distance" not in analysis
    capfd.readouterr()
    trust_module.trust([])
    assert main(["evaluate", f"checkpoint={run}"]) == 2
    assert "asks for 'ownparts.Two'" in (said := capfd.readouterr().err)
    assert "type trust=[ownparts] beside it" in said


# What is typed beside a tiny run -> words of the sentence.
WRONG = {
    "teacher/loss=mean": ("Focal returns one number", "or type drw=null"),
    "student/model=logits": ("ownparts.Small has tokens=None", "give it tokens = ('cls', 'dist')"),
    "teacher.module._target_=ownparts.Metod": ("ownparts.Metod", "did you mean 'Method'"),
    "teacher.module._target_=ownparts._private": ("ownparts._private", "was refused"),
    "teacher.module._target_=ownparts.os.system": ("ownparts.os.system", "was refused"),
    "teacher.module._target_=ownparts.system": ("ownparts.system", "was refused"),
    "teacher.module._target_=os.system": ("os.system", "was refused; remove that line"),
    "teacher.module._target_=torch.hub.load": ("torch.hub.load", "was refused; remove that line"),
    "teacher.module._target_=builtins.eval": ("builtins.eval", "was refused; remove that line"),
    "teacher.module._target_=elsewhere.Method": ("elsewhere.Method", "type trust=[elsewhere]"),
    "teacher.transforms.evaluation._target_=ownparts.transform": ("cannot be made again from a checkpoint",),
    "student/model=two student.init=timm:deit_tiny_patch16_224": ("student.init=timm:", "type student.init=null"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.items(), ids=WRONG)
def test_what_cannot_be_called_or_fit_together_is_said_before_anything_trains(words, said, typed, tiny, complain):
    sentence = complain("train", *typed, *tiny, *words.split())
    for part in said:
        assert part in sentence


@pytest.mark.parametrize("words", [words for words in WRONG if "_target_" in words and ".evaluation." not in words])
def test_a_sweep_looks_for_what_its_jobs_may_not_call_before_the_first(words, typed, tiny, complain):
    key, _, wrong = words.partition("=")
    sentence = complain("train", "-m", *typed, *tiny, f"{key}=ownparts.Method,{wrong}", output=None)
    for part in WRONG[words]:
        assert part in sentence


@pytest.mark.parametrize("how", [(), ("-m", "seed=0,1")], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("student.loss._target_=deitlt.losses.X", "deitlt.losses.X is not there; type another name of deitlt.losses."),
        ("+student.callbacks.x._target_=lightning.pytorch.callbacks.Tmer", "did you mean 'Timer'?"),
    ],
)
def test_a_part_that_a_library_has_not_is_said_before_anything_trains(words, said, how, tiny, complain):
    assert said in complain("train", *how, *tiny, words, output=None if how else "run")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "trust=[brokenparts] is no module that can be found; type --config-dir DIR"),
        ("import torch\nnothing\n", "NameError: name 'nothing' is not defined ({file}, line 2); mend it"),
        ("def broken(:\n", "SyntaxError: invalid syntax ({file}, line 1); mend it"),
        ("import nowhere_at_all\n", "No module named 'nowhere_at_all' ({file}, line 1); mend it"),
    ],
)
def test_a_trusted_module_that_cannot_be_had_is_named_with_its_line(text, said, tmp_path, tiny, monkeypatch, capfd):
    monkeypatch.setattr(sys, "path", sys.path[:])
    file = tmp_path / "brokenparts.py"
    if text is not None:
        file.write_text(text)
    assert main(["train", "--config-dir", str(tmp_path), "trust=[brokenparts]", *tiny]) == 2
    assert said.format(file=file) in capfd.readouterr().err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("name", ["os", "torch", "deitlt.cli", "_private"])
def test_only_modules_of_ones_own_can_be_trusted(name):
    with pytest.raises(ConfigError, match="is no module of your own"):
        trust_module.trust([name])


# What a stranger may write in place of a target.
STRANGE = (
    *("os.system", "builtins.eval", "torch.hub.load", "timm.create_model", "torch.load"),
    *("stranger.run", "ownparts._private", "ownparts.os.system"),
)


@pytest.mark.parametrize("target", STRANGE)
def test_a_strangers_run_and_checkpoint_run_no_code(target, typed, tiny, tmp_path, capfd, monkeypatch):
    run = tmp_path / "run"
    assert main(["train", *typed, *tiny, "stages=[teacher]", "teacher/model=small", f"paths.output_dir={run}"]) == 0
    (run / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef run(*a, **k): pass\n")
    monkeypatch.chdir(run)
    interrupted(run, "teacher")
    text = (run / "config.yaml").read_text().replace("_target_: ownparts.Small", f"_target_: {target}")
    (run / "config.yaml").write_text(text.replace("- ownparts", "- ownparts\n- stranger\n- os"))
    file = run / "teacher" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    content["deitlt"]["target"] = target
    content["deitlt"]["model"] = {"inner": {"_target_": "os.system", "command": f"touch {tmp_path}/ran"}}
    torch.save(content, file)
    capfd.readouterr()
    assert main(["train", *typed, f"resume={run}"]) == 2
    assert f"wants to call '{target}', and was refused" in capfd.readouterr().err
    assert main(["evaluate", *typed, f"checkpoint={run}", "stage=teacher"]) == 2
    assert f"asks for '{target}', which makes no teacher" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("target", STRANGE)
def test_a_strangers_stage_file_runs_no_code(target, typed, trained, tmp_path, capfd):
    run = shutil.copytree(trained, tmp_path / "run")
    file = run / "teacher" / "stage.yaml"
    content = OmegaConf.to_container(OmegaConf.load(file))
    content["recipe"]["loss"] = {"_target_": target, "command": f"touch {tmp_path}/ran"}
    file.write_text(yaml.safe_dump(content))
    assert main(["analyze", *typed, f"checkpoint={run}", "stage=teacher", "accelerator=cpu"]) == 2
    assert f"wants to call '{target}', and was refused" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_what_a_trusted_network_is_made_of_is_looked_at_too(typed, tiny, tmp_path, capfd):
    run = tmp_path / "run"
    assert main(["train", *typed, *tiny, "stages=[teacher]", "teacher/model=small", f"paths.output_dir={run}"]) == 0
    file = run / "teacher" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    content["deitlt"]["model"] = {"width": {"_target_": "os.system", "command": f"touch {tmp_path}/ran"}}
    torch.save(content, file)
    capfd.readouterr()
    assert main(["evaluate", *typed, f"checkpoint={run}", "stage=teacher"]) == 2
    assert "wants to call 'os.system', and was refused" in capfd.readouterr().err
    content["deitlt"]["model"] = {"width": f"${{oc.decode:'{{_target_: os.system, command: touch {tmp_path}/ran}}'}}"}
    torch.save(content, file)
    assert main(["evaluate", *typed, f"checkpoint={run}", "stage=teacher"]) == 2
    assert "which deitlt does not write, and was refused" in capfd.readouterr().err
    content["deitlt"]["model"] = {"width": 5}
    torch.save(content, file)
    assert main(["evaluate", *typed, f"checkpoint={run}", "stage=teacher"]) == 2
    assert "was written by another ownparts.Small than is here now" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("escaped", ["", "\\"])
def test_an_interpolation_that_would_become_a_call_is_refused(escaped, tiny, tmp_path, capfd):
    run = tmp_path / "run"
    assert main(["train", *tiny, "stages=[teacher]", f"paths.output_dir={run}"]) == 0
    interrupted(run, "teacher")
    call = f"{escaped}${{oc.decode:'{{_target_: os.system, command: touch {tmp_path}/ran}}'}}"
    for file in (run / "config.yaml", run / "teacher" / "stage.yaml"):
        config = OmegaConf.to_container(OmegaConf.load(file))
        config["teacher" if file.name == "config.yaml" else "recipe"]["loss"]["max_margin"] = call
        file.write_text(yaml.safe_dump(config))
    capfd.readouterr()
    assert main(["train", f"resume={run}"]) == 2
    assert "was refused" in capfd.readouterr().err
    assert main(["analyze", f"checkpoint={run}", "stage=teacher", "accelerator=cpu"]) == 2
    assert "was refused" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Makes installed packages that declare the entry point; undoes it."""
    place = tmp_path / "site"

    def install(package, text, name="parts"):
        (place / package).mkdir(parents=True)
        (place / package / "__init__.py").write_text(text)
        info = place / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[deitlt.plugins]\n{name} = {package}\n")
        _forget()
        return place / package

    def _forget():
        trust_module.plugins.cache_clear()
        trust_module.plugin_folders.cache_clear()
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(place)
    yield install
    _forget()


def test_an_installed_plugin_needs_no_word(plugin, tiny, tmp_path, capfd):
    place = plugin("plugged_loss", MODULE.partition("digits = ")[0]) / "conf" / "teacher" / "loss"
    place.mkdir(parents=True)
    (place / "plugged.yaml").write_text("# A loss that was installed.\n_target_: plugged_loss.Focal\n")
    trust_module.plugin_folders.cache_clear()
    words = ("teacher/loss=plugged", "teacher.module._target_=plugged_loss.Method", f"paths.output_dir={tmp_path}/run")
    assert main(["train", *tiny, "stages=[teacher]", *words]) == 0, capfd.readouterr()
    assert main(["list", "losses"]) == 0
    assert "A loss that was installed" in capfd.readouterr().out
    interrupted(tmp_path / "run", "teacher")
    assert main(["train", f"resume={tmp_path}/run"]) == 0, capfd.readouterr()


def test_a_plugin_that_fails_to_import_is_named_with_its_package(plugin, complain, tiny):
    plugin("plugged_broken", "import torch\n1 / 0\n", "mine")
    sentence = complain("train", *tiny)
    assert "The plugin 'mine' cannot be imported: ZeroDivisionError: division by zero" in sentence
    assert "line 2); mend it, or type pip uninstall plugged_broken" in sentence


def test_two_plugins_of_one_name_are_named(plugin, complain, tiny):
    plugin("plugged_one", "", "same")
    plugin("plugged_two", "", "same")
    assert "Two installed plugins are called 'same', of plugged_" in complain("train", *tiny)


def test_the_pages_module_and_words_train(tmp_path, tiny, capfd, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "mymodule.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    chosen = []
    for _, file, lines in re.findall(r"^\| (\w+) \| (\S+\.yaml) \| (.*) \|$", page, re.MULTILINE):
        (tmp_path / "my" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my" / file).write_text("\n".join(re.findall(r"`([^`]+)`", lines)))
        chosen.append(file.removesuffix(".yaml")[::-1].replace("/", "=", 1)[::-1])
    typed = re.findall(r"^deitlt train \.\.\. (\S+)$", page, re.MULTILINE)
    assert (len(chosen), len(typed)) == (6, 5)
    words = (*tiny, *chosen, *typed, "trust=[mymodule]", f"paths.output_dir={tmp_path}/run")
    assert main(["train", "--config-dir", str(tmp_path / "my"), *words]) == 0, capfd.readouterr()
    assert "training begins" in capfd.readouterr().out
    assert len((tmp_path / "run" / "student" / "lines.txt").read_text().splitlines()) == 4
    trust_module.trust([])


@pytest.mark.slow
@pytest.mark.parametrize("how", [["trainer.devices=2"], ["-m", "seed=0,1"]], ids=["ranks", "sweep"])
def test_own_parts_reach_the_ranks_the_workers_and_the_jobs(how, typed, tiny, tmp_path):
    words = [*(word for word in tiny if "num_workers" not in word), "data.num_workers=1", "data.name=mine", *ALL]
    place = f"paths.{'sweep' if '-m' in how else 'output'}_dir={tmp_path}/run"
    command = [sys.executable, "-m", "deitlt", "train", *how, *typed, *words, place]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"note: {1 if '-m' in how else 2} StudentModule" in done.stdout
    if "-m" in how:
        (best,) = (line for line in done.stdout.splitlines() if line.startswith("best: "))
        assert {"--config-dir", typed[1], "trust=[ownparts]", PARTS["logger"]} <= set(shlex.split(best))
    runs = [Path(place.partition("=")[2]) / job for job in (("0", "1") if "-m" in how else (".",))]
    assert all((run / "metrics.json").exists() for run in runs)
    for run in runs:
        rows = [line.split() for line in (run / "student" / "rows.txt").read_text().splitlines()]
        assert [line[1] for line in rows if line[0] == "metrics"] == ["0", "1", "2", "3"]
