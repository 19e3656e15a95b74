"""The script of `make evidence-gpu`: its parts, and, at tiny sizes on a CPU, the whole of it."""

import json
import sys

import pytest

from deitlt.benchmarks import evidence
from deitlt.benchmarks.evidence import Parts, compared, merged, page

ENDS, STAYS = ("pass", "import time; time.sleep(60)")


def python(monkeypatch, program):
    monkeypatch.setattr(evidence, "COMMAND", (sys.executable, "-c", program))


def test_a_part_is_stopped_when_its_time_is_up_and_what_has_none_is_left_out(monkeypatch):
    monkeypatch.setattr(evidence, "LEAST", 0.1)
    parts = Parts(seconds=60)
    python(monkeypatch, ENDS)
    assert parts.run("quick", ["train", "data.root=/home/somebody"])
    python(monkeypatch, "raise SystemExit(3)")
    assert not parts.run("broken", [])
    python(monkeypatch, STAYS)
    assert not parts.run("long", [], limit=0.5)
    parts.end = 0
    assert not parts.run("late", [])
    told = {name: part.get("left_out", part.get("exit_code")) for name, part in parts.done.items()}
    assert told == {"quick": 0, "broken": 3, "long": "stopped after its 0 s", "late": "no time was left"}
    assert parts.done["quick"]["command"] == "deitlt train data.root=FOLDER"
    assert parts.done["long"]["seconds"] < 20


def test_a_typed_word_takes_the_place_of_the_recipes():
    assert merged(["data.val_fraction=0.1", "a=1"], ["data.val_fraction=0"]) == ["data.val_fraction=0", "a=1"]


def test_digits_are_compared_where_both_have_them():
    first = {"cls": {"all": 50.0, "tail": 10.0}, "mean_prob": {"all": 1.0}}
    assert compared(first, {"cls": {"all": 50.0, "tail": 10.0}}) == {
        "numbers": 2,
        "equal": True,
        "largest_difference": 0.0,
    }
    assert compared(first, {"cls": {"all": 50.5, "tail": 10.0}})["largest_difference"] == 0.5
    assert not compared(first, {})["equal"]


def test_a_refused_training_ends_it_with_the_sentence_alone(tmp_path, capfd):
    words = ["trainer=cpu", "data=folder", f"data.root={tmp_path / 'nowhere'}"]
    assert evidence.main([str(tmp_path / "out"), "--minutes", "5", *words]) == 2
    said = capfd.readouterr()
    assert said.err.startswith(f"deitlt: data.root={tmp_path / 'nowhere'} is not a folder")
    assert not said.out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_script_at_tiny_sizes_on_a_cpu(tiny, tmp_path, monkeypatch, capfd):
    speed = ("generated=5000", "repeats=1", "training.batches=2")
    shrunk = {name: merged(words, speed) for name, words in evidence.SPEED.items() if name != "no_graphs"}
    monkeypatch.setattr(evidence, "SPEED", shrunk)
    words = [word for word in tiny if not word.startswith("experiment=")]
    words += [
        "data=digits",
        "data/sampler=shuffled",
        "data.val_fraction=0.3",
        "trainer=cpu",
        "teacher/model=cifar_resnet8",
    ]
    words += ["teacher.image_size=16", "student.image_size=16", "student.model.patch_size=4"]
    assert evidence.main([str(tmp_path), *words]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evidence.json", "evidence.md", "run"]
    found = json.loads((tmp_path / "evidence.json").read_text())
    names = ["train", "evaluate teacher", "evaluate student", "speed recipe", "speed paper"]
    assert {name: part.get("exit_code") for name, part in found["parts"].items()} == dict.fromkeys(names, 0)
    assert set(found["speed"]["recipe"]["stages"]) == {"sam_teacher", "student"}
    assert [found["evaluated"][stage]["equal"] for stage in ("teacher", "student")] == [True, True]
    assert {"cls", "dist", "avg", "mean_prob"} < set(found["run"]["student"])  # and what the held-out images fitted
    assert str(tmp_path) not in json.dumps(found)
    text = (tmp_path / "evidence.md").read_text()
    assert text == page(found)
    for said in ("| train |", "| student evaluated again |", "step, share of matrix peak", found["machine"]["torch"]):
        assert said in text
    assert text in capfd.readouterr().out
