import pytest
from omegaconf import OmegaConf

from deitlt.config.compose import differences, in_typed_words, make_absolute, runs_a_sweep


@pytest.mark.parametrize(
    ("words", "sweeps"),
    [
        (["-m", "seed=0,1"], True),
        (["seed=0,1", "--multirun"], True),
        (["-m", "seed=0,1", "--cfg", "job"], False),
        (["--cfg=job", "-m"], False),
        (["seed=0"], False),
    ],
)
def test_a_sweep_is_told_by_its_flag(words, sweeps):
    assert runs_a_sweep(words) == sweeps


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


def test_a_value_in_place_of_one_that_follows_is_compared_with_what_follows(recipe, changed):
    follows = changed("student.heads=${student.model.width}")
    run = OmegaConf.merge(follows, {"student": {"heads": 3}})
    assert differences(run, follows) == ["student.heads is 3, the recipe has 64"]
    assert differences(OmegaConf.merge(follows, {"student": {"heads": 64}}), follows) == []


def test_where_data_lie_and_who_reads_them_is_none(recipe, changed):
    run = changed("data.root=elsewhere", "data.num_workers=0", "trainer.devices=2", "seed=3")
    assert differences(run, recipe) == []


def test_differences_are_said_once_in_the_words_that_were_typed():
    found = [
        "data.imbalance_factor is None, the recipe has 0.05",
        "data.name is folder, the recipe has digits",
        "data.val_fraction is 0.1, the recipe has 0.0",
        "student.drw.beta is None, the recipe has 0.9999",
        "student.drw.start_epoch is None, the recipe has 105",
        "student.optimizer.betas is [0.9, 0.99], the recipe has [0.9, 0.999]",
        "teacher.epochs is 3, the recipe has 60",
    ]
    words = ["data=folder", "data.root=here", "student.drw=null", "student.optimizer.betas=[0.9,0.99]"]
    assert in_typed_words(found, ["experiment=digits", *words, "++data.val_fraction=0.1", "student.epochs=150"]) == [
        "data=folder",
        "++data.val_fraction=0.1, the recipe has 0.0",
        "student.drw=null",
        "student.optimizer.betas=[0.9,0.99], the recipe has [0.9, 0.999]",
        "teacher.epochs is 3, the recipe has 60",
    ]


def test_a_part_that_was_left_out_is_a_difference(recipe, changed):
    assert differences(changed("student.drw=null"), recipe) == [
        "student.drw.start_epoch is None, the recipe has 105",
    ]


def test_paths_are_made_absolute_and_names_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = OmegaConf.create(
        {"data": {"root": "data", "class_order": "authors"}, "student": {"init": "timm:deit_tiny"}}
    )
    make_absolute(config)
    assert config.data == {"root": str(tmp_path / "data"), "class_order": "authors"}
    assert config.student.init == "timm:deit_tiny"
