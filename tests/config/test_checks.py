import pytest
from omegaconf import OmegaConf

from deitlt.config.checks import check_devices, check_keys, check_nulls, check_ranges, check_targets, check_types
from deitlt.errors import ConfigError

CHOSEN = {
    "data": {"root": "data", "imbalance_factor": 0.01, "num_workers": 2},
    "student": {"epochs": 150, "model": {"_target_": "x", "width": 64}, "drw": {"start_epoch": 105}, "devices": None},
    "trainer": {"precision": "32-true", "devices": 1, "share": 0.5},
    "stages": ["teacher"],
    "watch_test": False,
    "seed": 0,
}


@pytest.fixture
def chosen():
    return OmegaConf.create(CHOSEN)


@pytest.fixture
def changed(chosen):
    def change(*dotlist):
        return OmegaConf.merge(chosen, OmegaConf.from_dotlist(list(dotlist)))

    return change


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("student.epochs=abc", "a whole number"),
        ("student.epochs=1.5", "a whole number"),
        ("trainer.share=most", "a number"),
        ("watch_test=maybe", "true or false"),
        ("stages=teacher", "a list"),
    ],
)
def test_a_value_of_another_kind_is_refused(override, kind, chosen, changed):
    with pytest.raises(ConfigError, match=f"{override.split('=')[0]}=.* is not {kind}; type"):
        check_types(changed(override), chosen)


@pytest.mark.parametrize("override", ["data.imbalance_factor=1", "trainer.devices=auto", "student.drw=null"])
def test_values_that_are_as_good_are_not(override, chosen, changed):
    check_types(changed(override), chosen)


@pytest.mark.parametrize("override", ["student.drw=null", "student.model.new=1", "student.epochs=3"])
def test_keys_that_may_change_do(override, chosen, changed):
    check_keys(changed(override), chosen)


def test_an_added_key_that_nobody_reads_is_refused(chosen, changed):
    with pytest.raises(ConfigError, match=r"student\.epoch is no key; did you mean 'student\.epochs'"):
        check_keys(changed("student.epoch=3"), chosen)


def test_a_key_that_is_needed_cannot_be_taken_away(chosen, changed):
    run = changed()
    del run.student.epochs
    with pytest.raises(ConfigError, match=r"student\.epochs is needed"):
        check_keys(run, chosen)


@pytest.mark.parametrize(
    ("override", "advice"),
    [("seed=-1", "type seed=0 or more"), ("data.num_workers=-1", "data.num_workers=0"), ("top=0", "top=1 or more")],
)
def test_a_number_below_what_there_can_be_is_refused(override, advice, changed):
    with pytest.raises(ConfigError, match=advice):
        check_ranges(changed(override))


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "[0,1]", "true"])
@pytest.mark.parametrize("key", ["trainer.devices", "student.devices"])
def test_a_number_of_devices_that_cannot_be_is_refused(key, value, changed):
    with pytest.raises(ConfigError, match=rf"^{key}=.* is no number of devices; type {key}=auto, or {key}=1 or more"):
        check_devices(changed(f"{key}={value}"))


@pytest.mark.parametrize("override", ["trainer.devices=auto", "trainer.devices=2", "student.devices=null"])
def test_a_number_of_devices_that_can_be_is_not(override, changed):
    check_devices(changed(override))


def test_a_choice_that_there_is_not_is_refused(changed):
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-mixd is no choice; did you mean '16-mixed'"):
        check_ranges(changed("trainer.precision=16-mixd"))


@pytest.mark.parametrize("override", ["student.epochs=null", "student.model=null", "data.root=null", "stages=null"])
def test_null_for_what_is_needed_is_refused(override, chosen, changed):
    with pytest.raises(ConfigError, match=f"{override} says nothing, and it is needed"):
        check_nulls(changed(override), chosen)


@pytest.mark.parametrize("override", ["student.drw=null", "student.model.width=null", "data.imbalance_factor=null"])
def test_null_for_what_may_be_left_out_is_not(override, chosen, changed):
    check_nulls(changed(override), chosen)


@pytest.mark.parametrize("override", ["data.imbalance_factor=rare", "student.model.width=wide"])
def test_what_is_a_number_or_null_is_nothing_else(override, chosen, changed):
    with pytest.raises(ConfigError, match=f"{override} is no number; type .*=null for none"):
        check_types(changed(override), chosen)


@pytest.mark.parametrize(
    "words",
    [["student.loss.threshold=0.2"], ["student.transforms.mixing.smoothing=0.0"], ["student.transforms.mixing=null"]],
)
def test_smoothing_that_makes_every_class_right_is_refused(words):
    loss = {"threshold": 0.0}
    run = OmegaConf.create({"student": {"loss": loss, "transforms": {"mixing": {"smoothing": 0.1}}}})
    with pytest.raises(ConfigError, match=r"threshold=0 with .*smoothing=0\.1 .*; type student\.transforms\.mixing"):
        check_targets(run)
    check_targets(OmegaConf.merge(run, OmegaConf.from_dotlist(words)))
