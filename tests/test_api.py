import base64
import json
import re

import pytest
import torch
from PIL import Image

import deitlt
from deitlt.api import as_words
from deitlt.cli import main
from deitlt.errors import CheckpointError, ConfigError, DataError

TINY = {
    "data": {"num_workers": 0, "max_count": 20, "imbalance_factor": 0.1},
    "teacher": {"epochs": 1, "drw": None, "schedule": {"warmup_epochs": 0, "factors": []}},
    "student": {"epochs": 1, "drw": None, "transforms": "batch_small", "schedule": {"warmup_epochs": 0}},
    "analysis": {"every": None},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return deitlt.train(experiment="digits", report=False, out=tmp_path_factory.mktemp("api") / "run", **TINY)


def test_arguments_are_the_words_of_the_command_line():
    typed = {"data": {"root": "a b", "imbalance_factor": 0.1, "exclude": ["x,y"]}, "teacher": {"ema": None}}
    assert as_words(typed | {"report": True}) == [
        *("data.root='a b'", "data.imbalance_factor=0.1", "data.exclude=['x,y']"),
        *("teacher.ema=null", "report=true"),
    ]
    assert as_words({"student": {"transforms": "batch_small"}, "data": "folder"}) == [
        "student/transforms=batch_small",
        "data=folder",
    ]


def test_a_run_shows_its_table_and_gives_its_numbers(run):
    told = json.loads((run.folder / "metrics.json").read_text())
    assert run.metrics["student"] == told["student"]
    assert "student DIST" in repr(run)
    assert str(run.folder) in repr(run)
    frame = run.to_pandas().set_index(["part", "token"])
    assert frame.loc[("student", "dist"), "tail"] == pytest.approx(told["student"]["dist"]["tail"])


def test_a_notebook_shows_table_and_picture(run):
    shown = run._repr_markdown_()
    assert "| student DIST |" in shown
    (picture,) = re.findall(r"data:image/png;base64,([^)]*)", shown)
    assert base64.b64decode(picture) == (run.folder / "per_class.png").read_bytes()


def test_a_model_predicts_what_the_command_writes(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images"
    folder.mkdir()
    pictures = [Image.new("RGB", (8, 8), (40 * i, 0, 90)) for i in range(5)]
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{i}.png")
    assert main(["predict", f"checkpoint={run.folder}", "images=images", "num_workers=0"]) == 0
    model = deitlt.load(run.folder)
    found = model.predict("images", batch_size=2)
    written = (tmp_path / "predictions.csv").read_text().splitlines()
    assert [",".join(row.values()) for row in found.rows()] == written[1:]
    assert list(found.to_pandas().columns) == written[0].split(",")
    for asked in (pictures, [folder / f"{i}.png" for i in range(5)]):
        again = model.predict(asked).probabilities["avg"]
        torch.testing.assert_close(again, found.probabilities["avg"])
    tensors = torch.stack([model.transform(picture) for picture in pictures])
    torch.testing.assert_close(model.predict(tensors).probabilities["dist"], found.probabilities["dist"])
    assert set(found.classes) <= set(model.classes)
    assert len(model.predict(pictures[0])) == 1


def test_a_model_is_any_stages_and_its_evaluation_has_the_runs_digits(run, tmp_path):
    teacher = run.load("teacher")
    assert "teacher cifar_resnet8" in repr(teacher)
    assert teacher.network(torch.zeros(1, 3, 16, 16)).shape == (1, len(teacher.classes))
    again = run.load().evaluate(out=tmp_path / "again", num_workers=0)
    assert again.metrics["student"] == run.metrics["student"]


def test_inspection_gives_the_classes_and_pictures(tmp_path, capfd):
    found = deitlt.inspect(experiment="digits", out=tmp_path / "seen", **TINY)
    assert capfd.readouterr().out == ""
    assert found.to_pandas()["train"].astype(int).tolist() == [20, 15, 11, 9, 7, 5, 4, 3, 2, 2]
    assert all(picture.exists() for picture in found.pictures)
    assert found._repr_markdown_().count("data:image/png") == len(found.pictures)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"student": {"epoch": 3}}, r"student\.epoch is no key; did you mean 'student\.epochs'"),
        ({"data": "digit"}, "digit"),
        ({"student": {"epochs": "many"}}, r"student\.epochs=many"),
        ({"protocol": "best"}, "protocol=best"),
    ],
)
def test_a_wrong_argument_is_the_commands_sentence(wrong, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        deitlt.train(**{"experiment": "digits", **wrong}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_ones_own_is_named(tmp_path):
    own = tmp_path / "my"
    (own / "method").mkdir(parents=True)
    (own / "method" / "mine.yaml").write_text("# @package _global_\nstages: [teacher]\nteacher: {epochs: 3}\n")
    with pytest.raises(ConfigError, match="method=mine is no choice"):
        deitlt.inspect("method=mine", experiment="digits", out=tmp_path / "none")
    seen = deitlt.inspect("method=mine", experiment="digits", config_dir=own, out=tmp_path / "seen")
    assert [picture.name for picture in seen.pictures if picture.name == "views.png"] == []
    with pytest.raises(ConfigError, match="mine is no choice"):
        deitlt.train("method=yours_mine", experiment="digits", config_dir=own, out=tmp_path / "run")


def test_flags_and_what_is_not_there_are_said(run, tmp_path):
    with pytest.raises(ConfigError, match=r"-m is of the command line; type deitlt train -m"):
        deitlt.train("-m", experiment="digits")
    with pytest.raises(CheckpointError, match="nowhere"):
        deitlt.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no image"):
        run.load().predict(tmp_path)
    with pytest.raises(AttributeError, match="trane"):
        _ = deitlt.trane


def test_pandas_is_asked_for_where_it_is_needed(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        run.to_pandas()
