from dataclasses import replace

import pytest

from deitlt.reports.matching import is_out_of_distribution, matched_runs


def test_teachers_whose_transforms_nobody_wrote_down_are_not_compared(make_run):
    unknown = make_run("unknown", transforms=None)
    assert is_out_of_distribution(unknown) is None
    only_mixing = {**unknown.recipe("student")["transforms"], "mixing": None}
    assert is_out_of_distribution(make_run("mixing", transforms=only_mixing)) is True


@pytest.fixture
def named(make_run):
    """Makes a run of a name, its student's recipe changed."""

    def make(name, **changes):
        run = replace(make_run(name), name=name)
        run.stages["student"]["recipe"].update(changes)
        return run

    return make


def test_runs_of_one_recipe_but_for_what_it_is_about_stand_beside_each_other(named):
    ours = [named("a"), named("a2", epochs=9)]
    theirs = [named("b", drw=None), named("b2", epochs=9, sam={"enabled": False})]
    sides = matched_runs(ours, theirs, ["student.sam."])
    assert [[run.name for run in side] for side in sides[:2]] == [["a2"], ["b2"]]
    assert sides.note == "Compared: a2 beside b2."


def test_of_equally_near_recipes_it_is_that_of_the_most_runs(named):
    theirs = [named("b", epochs=9), named("c", epochs=8), named("d", epochs=8, batch_size=3)]
    sides = matched_runs([named("a")], theirs, [])
    assert [run.name for run in sides.theirs] == ["c", "d"]  # how a batch is shared among devices changes no recipe
    assert sides.note == "Compared: a beside c, d; they differ in student.epochs, too."


def test_many_keys_are_counted_and_a_null_node_stands_for_its_keys(named):
    ours = [named("a")]
    words = "they differ in student.drw, student.w, student.x and 2 keys more, too."
    assert matched_runs(ours, [named("b", drw=None, w=1, x=1, y=1, z=1)], []).note.endswith(words)
    unknown = named("c")
    unknown.stages.clear()
    assert matched_runs(ours, [unknown], []).note == ""  # nobody wrote its recipe down
    assert matched_runs(ours, [], []) == ([], [], "")
