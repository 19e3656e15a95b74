import json

import pytest

from deitlt.benchmarks import epoch
from deitlt.benchmarks.recipes import key_of, merged
from deitlt.cli import main


def test_a_recipe_is_trained_in_both_ways(tiny, monkeypatch, capfd):
    opened = []
    open_bench = epoch.open_bench

    def watched(config, name, *arguments):
        opened.append((name, config.trainer.precision, config.student.views.train._target_.rpartition(".")[2]))
        return open_bench(config, name, *arguments)

    monkeypatch.setattr(epoch, "open_bench", watched)
    ways = ('epoch.fast=["trainer.precision=bf16-mixed","student/views=device"]', 'epoch.plain=["student/views=small"]')
    dropped = ("student/views=", "student.views")
    words = [word for word in tiny if not word.startswith(dropped)]
    short = ("epoch.batches=2", "repeats=2", "output=found.json")
    assert main(["benchmark", "part=epoch", *words, *ways, *short]) == 0
    with open("found.json") as file:
        found = json.load(file)
    # In turns, and the user's other overrides are kept.
    assert opened == 2 * [("student", "bf16-mixed", "device_view"), ("student", "auto", "student_view")]
    assert [way["way"] for way in found["ways"]] == ["fast", "plain"]
    assert min(way["images_per_second"] for way in found["ways"]) > 0
    assert found["time_share"] > 0
    assert "time over the plain one" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("override", "key"),
    [("a.b=1", "a.b"), ("+a=1", "a"), ("~a.b", "a.b"), ("student/views=x", "student/views"), ("++a='b=c'", "a")],
)
def test_the_key_of_an_override(override, key):
    assert key_of(override) == key


def test_a_change_takes_the_place_of_the_override_of_its_key():
    assert merged(["a=1", "b=2", "+c=3"], ["b=4", "d=5"]) == ["a=1", "+c=3", "b=4", "d=5"]


def test_a_way_with_a_choice_that_there_is_not(tiny, complain):
    sentence = complain("benchmark", "part=epoch", *tiny, 'epoch.fast=["student/views=devise"]', output=None)
    assert "student/views=devise is no choice; did you mean 'device'?" in sentence
