import pytest
from omegaconf import OmegaConf

from deitlt.errors import ConfigError
from deitlt.tasks.checks import check_keys, check_ranges, check_types
from deitlt.tasks.recipes import differences

RECIPE = {
    "data": {"root": "data", "imbalance_factor": 0.01, "num_workers": 2},
    "student": {"epochs": 150, "model": {"_target_": "x", "width": 64}, "drw": {"start_epoch": 105}, "devices": None},
    "trainer": {"precision": "32-true", "devices": 1},
    "stages": ["teacher"],
    "watch_test": False,
    "seed": 0,
}


@pytest.fixture
def recipe():
    return OmegaConf.create(RECIPE)


@pytest.fixture
def changed(recipe):
    def change(*dotlist):
        return OmegaConf.merge(recipe, OmegaConf.from_dotlist(list(dotlist)))

    return change


def test_the_recipe_itself_differs_in_nothing(recipe):
    assert differences(recipe, recipe) == []


def test_what_changes_the_weights_is_a_difference(recipe, changed):
    run = changed("student.epochs=3", "student.model.width=16", "trainer.precision=bf16-mixed")
    assert differences(run, recipe) == [
        "student.epochs is 3, the recipe has 150",
        "student.model.width is 16, the recipe has 64",
        "trainer.precision is bf16-mixed, the recipe has 32-true",
    ]


def test_where_data_lie_and_who_reads_them_is_none(recipe, changed):
    run = changed("data.root=elsewhere", "data.num_workers=0", "student.devices=2", "trainer.devices=2", "seed=3")
    assert differences(run, recipe) == []


def test_a_part_that_was_left_out_is_a_difference(recipe, changed):
    assert differences(changed("student.drw=null"), recipe) == [
        "student.drw.start_epoch is None, the recipe has 105",
    ]


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("student.epochs=abc", "a whole number"),
        ("student.epochs=1.5", "a whole number"),
        ("data.imbalance_factor=rare", "a number"),
        ("watch_test=maybe", "true or false"),
        ("stages=teacher", "a list"),
    ],
)
def test_a_value_of_another_kind_is_refused(override, kind, recipe, changed):
    with pytest.raises(ConfigError, match=f"{override.split('=')[0]}=.* is not {kind}; type"):
        check_types(changed(override), recipe)


@pytest.mark.parametrize("override", ["data.imbalance_factor=1", "trainer.devices=auto", "student.drw=null"])
def test_values_that_are_as_good_are_not(override, recipe, changed):
    check_types(changed(override), recipe)


@pytest.mark.parametrize("override", ["student.drw=null", "student.model.new=1", "student.epochs=3"])
def test_keys_that_may_change_do(override, recipe, changed):
    check_keys(changed(override), recipe)


def test_an_added_key_that_nobody_reads_is_refused(recipe, changed):
    with pytest.raises(ConfigError, match=r"student\.epoch is no key; did you mean 'student\.epochs'"):
        check_keys(changed("student.epoch=3"), recipe)


def test_a_key_that_is_needed_cannot_be_taken_away(recipe, changed):
    run = changed()
    del run.student.epochs
    with pytest.raises(ConfigError, match=r"student\.epochs is needed"):
        check_keys(run, recipe)


@pytest.mark.parametrize(
    ("override", "advice"),
    [("seed=-1", "type seed=0 or more"), ("data.num_workers=-1", "data.num_workers=0"), ("top=0", "top=1 or more")],
)
def test_a_number_below_what_there_can_be_is_refused(override, advice, changed):
    with pytest.raises(ConfigError, match=advice):
        check_ranges(changed(override))


def test_a_choice_that_there_is_not_is_refused(changed):
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-mixd is no choice; did you mean '16-mixed'"):
        check_ranges(changed("trainer.precision=16-mixd"))
