from dataclasses import replace

import pytest

from deitlt.reports.nearest import nearest


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
    sides = nearest(ours, theirs, ["student.sam."])
    assert [[run.name for run in side] for side in sides[:2]] == [["a2"], ["b2"]]
    assert sides.note == "Compared: a2 beside b2."


def test_of_equally_near_recipes_it_is_that_of_the_most_runs(named):
    ours = [named("a")]
    theirs = [named("b", epochs=9), named("c", epochs=8), named("d", epochs=8, batch_size=3)]
    sides = nearest(ours, theirs, [])
    assert [run.name for run in sides.theirs] == ["c", "d"]  # how a batch is shared among devices changes no recipe
    assert sides.note == "Compared: a beside c, d; they differ in student.epochs, too."


def test_many_keys_are_counted_and_a_null_node_stands_for_its_keys(named):
    other = named("b", drw=None, w=1, x=1, y=1, z=1)
    assert nearest([named("a")], [other], []).note == (
        "The runs compared differ in student.drw, student.w, student.x and 2 keys more, too."
    )


def test_a_recipe_that_nobody_wrote_down_differs_in_nothing_known(named):
    unknown = replace(named("b"), stages={})
    assert nearest([named("a")], [unknown], []).note == ""
    assert nearest([named("c")], [], []) == ([], [], "")
