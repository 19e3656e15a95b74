import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from deitlt.config.checks import check_targets, check_values
from deitlt.config.compose import config_dir
from deitlt.config.keys import walk
from deitlt.config.schema import Train
from deitlt.config.verbs import SCHEMAS
from deitlt.errors import ConfigError


@pytest.fixture(scope="module")
def digits():
    """What `deitlt train` begins with."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=[f"paths.output_dir={config_dir()}"])


@pytest.fixture
def changed(digits):
    def change(*dotlist):
        config = digits.copy()
        with open_dict(config):
            for word in dotlist:
                key, _, value = word.partition("=")
                OmegaConf.update(config, key, OmegaConf.from_dotlist([f"it={value}"]).it, force_add=True, merge=False)
        return config

    return change


# What is typed -> what the sentence says.
REFUSED = {
    "student.epochs=abc": "is not a whole number, 1 or more; type student.epochs=1",
    "student.epochs=1.5": "is not a whole number",
    "student.epochs='3'": "is not a whole number",
    "student.epochs=0": "type student.epochs=1 or more",
    "student.optimizer.lr=fast": "is not a number",
    "student.optimizer.lr=-1": "type student.optimizer.lr=0 or more",
    "watch_test=maybe": "is not true or false",
    "watch_test='no'": "is not true or false",
    "stages=teacher": r"is not a list of teacher \| student \| baseline; type stages=\[teacher,student\]",
    "stages=[teacher,studnet]": "stages has 'studnet', which is no choice; did you mean 'student'",
    "student.optimizer.betas=[0.9,much]": "is not a list",
    "data.group_cuts=[1,x]": "is not a list or null",
    "data.imbalance_factor=rare": "is not a number or null",
    "student.model.width=wide": "is not a whole number, 1 or more or null",
    "trainer.precision=16-mixd": "is no choice; did you mean '16-mixed'",
    "trainer.devices=0": "type trainer.devices=1 or more",
    "trainer.devices=two": "is no choice; type auto",
    "trainer.devices=1.5": "is not a whole number or auto, 1 or more",
    "trainer.devices=true": "is not a whole number or auto",
    "trainer.compile=2": "is not true or false or auto",
    "seed=-1": "type seed=0 or more",
    "data.num_workers=-1": "type data.num_workers=0 or more",
    "data.val_fraction=1": "is not 0 or more and below 1; type data.val_fraction=0.1",
    "student.distillation.alpha=1.5": "is not 0 or more and at most 1",
    "student.epochs=null": "student.epochs=null says nothing, and it is needed",
    "student.model=null": "student.model=null says nothing, and it is needed",
    "data.root=null": "says nothing, and it is needed",
    "stages=null": "says nothing, and it is needed",
    "student.epoch=3": r"student\.epoch is no key; did you mean 'student\.epochs'",
    "student.drw=3": "student.drw=3 holds no keys",
    "student.model.deptth=1": r"is nothing that create_student, the chosen .*; did you mean 'student\.model\.depth'",
    "teacher.sam.rho.start=1": r"is nothing that ConstantRho.*; type ~teacher\.sam\.rho\.start to take away",
    "student.drw={start_epoch: 3}": r"student\.drw has no beta, .*; type student\.drw=null",
    "teacher.ema={}": r"teacher\.ema\.decay is needed; type teacher\.ema\.decay=VALUE",
    "baseline.extends=studnet": "baseline.extends=studnet is no stage; did you mean 'student'",
    "baseline.epoch=3": "baseline.epoch is no key; did you mean 'baseline.epochs'",
    "objective.metric=[a]": "is not text or null",
    "student.optimizer.lr=1e-6": r"student\.optimizer\.lr=1e-06 is below student\.schedule\.min_lr=.*; type",
}


@pytest.mark.parametrize(("word", "said"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_is_refused_with_what_to_type(word, said, changed):
    with pytest.raises(ConfigError, match=said):
        check_values(changed(word), "train")


@pytest.mark.parametrize(
    "word",
    [
        *("data.imbalance_factor=1", "trainer.devices=auto", "student.drw=null", "student.model.width=null"),
        *("student.optimizer.eps=1e-8", "baseline.epochs=3", "student.init=timm:deit_tiny", "trainer.compile=true"),
        *("student.loss={_target_: my.Loss, sharpness: 3}", "student.schedule.warmup_epochs=0"),
    ],
)
def test_what_can_be_is_not(word, changed):
    check_values(changed(word), "train")


@pytest.mark.parametrize("base", ["teacher", "student"])
def test_a_stage_of_the_users_has_the_keys_of_what_it_extends(base, changed):
    again = [f"again.extends={base}", "again.epochs=3", f"stages=[{base},again]"]
    check_values(changed(*again), "train")
    with pytest.raises(ConfigError, match=r"again\.epoch is no key; did you mean 'again\.epochs'"):
        check_values(changed(*again, "again.epoch=3"), "train")


@pytest.mark.parametrize("key", ["student.epochs", "student.model", "trainer.precision", "seed"])
def test_a_key_that_is_needed_cannot_be_taken_away(key, changed):
    config = changed()
    parent, _, name = key.rpartition(".")
    with open_dict(config):
        del (OmegaConf.select(config, parent) if parent else config)[name]
    with pytest.raises(ConfigError, match=f"{key} is needed"):
        check_values(config, "train")


def test_smoothing_that_makes_every_class_right_is_refused(changed):
    bce = "student.loss={_target_: deitlt.losses.BinaryCrossEntropyLoss, threshold: 0.0}"
    with pytest.raises(ConfigError, match=r"threshold=0 with .*smoothing=0\.1 .*; type student\.\w+\.mixing\.smooth"):
        check_targets(changed(bce))
    check_targets(changed(bce, "student.loss.threshold=0.2"))


def test_every_key_says_what_it_means_once():
    for schema in SCHEMAS.values():
        for key in walk(schema):
            assert len(key.meaning) > 3, key.name
            assert key.kind, key.name


def test_the_schema_knows_every_key_of_every_file():
    known = {key.name for key in walk(Train)}
    for path in config_dir().glob("*/**/*.yaml"):
        group = path.parent.relative_to(config_dir()).as_posix()
        prefix = "" if group.split("/")[0] in ("experiment", "method", "sweep") else f"{group.replace('/', '.')}."
        for key in keys_of(OmegaConf.to_container(OmegaConf.load(path), resolve=False), prefix):
            assert key in known or key.startswith(("hydra", "baseline")), f"{path}: {key}"


def keys_of(content, prefix):
    for name, value in content.items():
        if name in ("defaults", "_target_", "_partial_"):
            continue
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{name}.")
