from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from deitlt.config.trust import is_allowed, refuse_strange_targets
from deitlt.engine.stage_config import StageConfig, check_epochs
from deitlt.errors import ConfigError


@pytest.fixture
def stage(trained):
    return StageConfig.load(trained / "student" / "stage.yaml")


def test_a_stage_reads_what_it_wrote(stage, tmp_path):
    stage.save(tmp_path / "deep" / "stage.yaml")
    assert StageConfig.load(tmp_path / "deep" / "stage.yaml") == stage


def test_a_stages_file_holds_plain_values_alone(trained):
    content = OmegaConf.to_container(OmegaConf.load(trained / "student" / "stage.yaml"), resolve=False)
    assert "${" not in str(content)
    assert content["teacher"] == str(trained / "teacher" / "last.ckpt")


def test_a_baseline_is_a_student_that_nobody_teaches(trained, stage):
    baseline = StageConfig.load(trained / "baseline" / "stage.yaml")
    assert (baseline.kind, baseline.distils, baseline.teacher) == ("student", False, None)
    assert (stage.kind, stage.distils) == ("student", True)
    assert baseline.recipe["schedule"] == stage.recipe["schedule"]
    assert baseline.recipe["drw"] is baseline.recipe["ema"] is None
    assert baseline.recipe["model"]["distilled"] is False


def test_the_test_set_is_watched_only_where_it_was_asked_for(stage):
    assert stage.watched == ("val",)
    assert replace(stage, watch_test=True).watched == ("val", "test")
    assert replace(stage, protocol="paper").watched == ("val", "test")


@pytest.mark.parametrize(
    "target",
    [
        *(
            "os.system",
            "deitlt",
            "deitlt.data",
            "deitlt.cli.main",
            "deitlt.commands.train",
            "torch.load",
            "torch.optim",
        ),
        *(
            "deitlt.data.datamodule.torch.load",
            "deitlt.models.factory.timm.create_model",
            "torch.optim.sgd.torch.load",
        ),
        *("xdeitlt.data.LongTailDataModule", "deitlt.data.x()", "timm.optim.create_optimizer_v2.x", "deitlt_data.x"),
    ],
)
def test_nothing_but_public_parts_may_be_called(target):
    assert not is_allowed(target)
    with pytest.raises(ConfigError, match="was refused"):
        refuse_strange_targets({"student": [{"model": {"_target_": target}}]}, "config.yaml")


@pytest.mark.parametrize(
    "target",
    ["deitlt.models.create_student", "deitlt.modules.TeacherModule", "torch.optim.AdamW", "deitlt.optim.LinearRho"],
)
def test_our_own_parts_may(target):
    assert is_allowed(target)
    refuse_strange_targets({"student": [{"model": {"_target_": target}}]}, "config.yaml")


def recipe(drw):
    return {"epochs": 10, "drw": drw, "ema": None}


@pytest.mark.parametrize("start", [-1, 10, 11])
def test_re_weighting_begins_within_the_epochs(start):
    with pytest.raises(ConfigError, match=rf"student\.drw\.start_epoch={start} is not among the epochs 0 to 9"):
        check_epochs("student", recipe({"start_epoch": start, "beta": 0.9999, "stop_mixing": True}))


def test_re_weighting_may_begin_with_the_first_or_last_epoch_or_never():
    for start in (0, 9):
        check_epochs("student", recipe({"start_epoch": start, "beta": 0.9999, "stop_mixing": True}))
    check_epochs("student", recipe(None))


@pytest.mark.parametrize(
    ("node", "given", "missing"), [("drw", {"start_epoch": 5}, "beta"), ("ema", {"decay": 0.9}, "warmup")]
)
def test_a_node_of_which_only_a_delta_is_there_is_told(node, given, missing):
    half = recipe(None) | {node: given}
    with pytest.raises(ConfigError, match=rf"teacher\.{node} has no {missing}.*type teacher\.{node}=null"):
        check_epochs("teacher", half)
