import os
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from deitlt.config import config_dir
from deitlt.config.trust import is_allowed, refuse_strange_targets
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import (
    StageConfig,
    check_epochs,
    choose_compile,
    choose_precision,
    count_devices,
    make_stage,
    plan_batches,
    slow_precision,
)
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


def composed(*words):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=["paths.output_dir=run", *words])


@pytest.fixture
def staged(tmp_path):
    """Makes the digits recipe's stages with these words."""

    def make(*words):
        config = composed("experiment=digits", *words)
        return {name: make_stage(config, RunFolder(tmp_path), name) for name in ("teacher", "student")}

    return make


@pytest.mark.parametrize("start", [-1, 10, 11])
def test_re_weighting_begins_within_the_epochs(start, staged):
    with pytest.raises(ConfigError, match=rf"student\.drw\.start_epoch={start} is not among the epochs 0 to 9"):
        staged("student.epochs=10", f"student.drw.start_epoch={start}")


def test_re_weighting_may_begin_with_the_first_or_last_epoch_or_never(staged):
    for start in (0, 9):
        stage = staged("student.epochs=10", f"student.drw.start_epoch={start}")["student"]
        assert stage.recipe["drw"]["start_epoch"] == start
    assert staged("student.epochs=10", "student.drw=null")["student"].recipe["drw"] is None


def test_all_that_begins_too_late_is_named_in_one_sentence():
    config = composed("experiment=cifar10_lt_if100", "teacher.epochs=100", "student.epochs=100")
    with pytest.raises(ConfigError) as refused:
        check_epochs(config, ["teacher", "student"])
    assert "teacher.drw.start_epoch=160 is not among" in str(refused.value)
    assert "and student.drw.start_epoch=1100 is not among" in str(refused.value)
    assert "type teacher.drw.start_epoch=0.8 student.drw.start_epoch=0.8, a share" in str(refused.value)


def test_the_number_of_epochs_alone_shortens_a_small_recipe(staged):
    usual, short = staged(), staged("teacher.epochs=5", "student.epochs=5")
    teacher, student = (usual[name].recipe for name in ("teacher", "student"))
    assert (teacher["schedule"]["warmup_epochs"], teacher["drw"]["start_epoch"]) == (5, 48)
    assert teacher["schedule"]["factors"] == [[48, 0.1], [54, 0.01]]
    assert (student["schedule"]["warmup_epochs"], student["drw"]["start_epoch"]) == (5, 105)
    teacher, student = (short[name].recipe for name in ("teacher", "student"))
    assert (teacher["schedule"]["warmup_epochs"], teacher["drw"]["start_epoch"]) == (0, 4)
    assert teacher["schedule"]["factors"] == [[4, 0.1], [5, 0.01]]
    assert (student["schedule"]["warmup_epochs"], student["drw"]["start_epoch"]) == (0, 4)


def test_shares_are_of_the_stages_own_epochs(staged, tmp_path):
    rho = ("teacher/sam=steps", "teacher.sam.rho.values=[[0,0.1],[0.5,0.2]]")
    stages = staged(*rho, "evaluate_every=0.1", "checkpoint_every=0.05")
    assert stages["teacher"].recipe["sam"]["rho"]["values"] == [[0, 0.1], [30, 0.2]]
    assert [(stage.evaluate_every, stage.checkpoint_every) for stage in stages.values()] == [(6, 3), (15, 8)]
    baseline = make_stage(composed("experiment=digits", "+baseline.epochs=10"), RunFolder(tmp_path), "baseline")
    assert baseline.recipe["schedule"]["warmup_epochs"] == 0  # 3.3 % of 10, though what it extends has 150


def test_a_share_of_one_epoch_is_the_last(staged):
    stage = staged("student.epochs=1", "student.drw.start_epoch=0.9", "evaluate_every=0.2")["student"]
    assert (stage.recipe["drw"]["start_epoch"], stage.evaluate_every) == (0, 1)


@pytest.mark.parametrize(
    "word", ["student.drw.start_epoch=1.5", "student.schedule.warmup_epochs=1.0", "evaluate_every=2.5"]
)
def test_what_is_neither_epochs_nor_a_share_is_refused(word, staged):
    with pytest.raises(ConfigError, match=rf"{word} is neither a whole number of epochs nor a share of them; type"):
        staged(word)


@pytest.fixture
def gpus(monkeypatch):
    def have(number):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    return have


@pytest.mark.parametrize(
    ("there_are", "asked", "found"),
    [
        (0, ("auto", 1), ("cpu", 1)),
        (4, ("auto", 2), ("gpu", 2)),
        (4, ("auto", "auto"), ("gpu", 4)),
        (4, ("cpu", "auto"), ("cpu", 1)),
    ],
)
def test_auto_is_every_gpu_or_one_process(there_are, asked, found, gpus):
    gpus(there_are)
    assert count_devices(*asked) == found


@pytest.mark.parametrize(
    ("there_are", "accelerator", "devices", "said"),
    [
        (1, "gpu", 0, "trainer.devices=0 cannot be had: this machine has 1 GPU; type trainer.devices=1."),
        (1, "gpu", 2, "; type trainer.devices=1."),
        (2, "gpu", "two", "has 2 GPUs; type trainer.devices=1, or up to 2."),
        (2, "gpu", 3, "; type trainer.devices=2 or fewer."),
        (0, "cpu", -1, "devices=-1"),
        (0, "cpu", 1.5, "devices=1.5"),
        (0, "cpu", 1 + (os.cpu_count() or 1), "CPU core"),
        (0, "gpu", 1, "there is no GPU; type trainer.accelerator=cpu"),
    ],
)
def test_devices_that_cannot_be_had_are_refused(there_are, accelerator, devices, said, gpus):
    gpus(there_are)
    with pytest.raises(ConfigError) as refused:
        count_devices(accelerator, devices)
    assert said in str(refused.value)


def test_the_accelerator_has_the_verbs_name(gpus):
    gpus(0)
    with pytest.raises(ConfigError, match=r"^accelerator=gpu, .* type accelerator=cpu\.$"):
        count_devices("gpu", 1, "accelerator")


@pytest.mark.parametrize("bf16", [True, False])
def test_auto_precision_is_bf16_where_a_gpu_has_it(monkeypatch, bf16):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 or including_emulation)
    assert choose_precision("auto", "gpu") == ("bf16-mixed" if bf16 else "32-true")
    assert choose_precision("auto", "cpu") == "32-true"
    for precision in ("32-true", "bf16-mixed", "16-mixed"):
        assert choose_precision(precision, "gpu") == choose_precision(precision, "cpu") == precision


def test_auto_compiles_for_a_gpu_alone(monkeypatch):
    monkeypatch.setattr("deitlt.engine.stage_config._missing_to_compile", lambda accelerator: None)
    assert choose_compile("auto", "gpu") is True
    assert choose_compile("auto", "cpu") is False
    assert choose_compile(True, "cpu") is choose_compile("true", "cpu") is True
    assert choose_compile(False, "gpu") is choose_compile("false", "gpu") is False
    assert choose_compile("graphs", "gpu") == "graphs"
    assert choose_compile("graphs", "cpu") is False


def test_a_machine_without_a_compiler_is_told_so(monkeypatch):
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("deitlt.engine.stage_config.find_spec", lambda name: object())
    monkeypatch.setattr("deitlt.engine.stage_config.shutil.which", lambda name: None)
    assert choose_compile("auto", "gpu") is False
    assert choose_compile(False, "cpu") is False
    with pytest.raises(
        ConfigError, match=r"true needs a compiler \(g\+\+ or clang\+\+\), .* type trainer\.compile=false"
    ):
        choose_compile(True, "cpu")
    with pytest.raises(ConfigError, match=r"needs a compiler \(gcc or clang\)"):
        choose_compile(True, "gpu")
    monkeypatch.setenv("CXX", "/opt/c++")
    with pytest.raises(ConfigError, match=r"needs a compiler \(/opt/c\+\+\)"):
        choose_compile("true", "cpu")
    monkeypatch.setattr("deitlt.engine.stage_config.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs Triton"):
        choose_compile(True, "gpu")
    assert choose_compile("auto", "gpu") is False


@pytest.mark.parametrize(
    ("flags", "precision", "is_told"),
    [
        ("flags : fpu avx2 avx512f", "bf16-mixed", True),
        ("flags : fpu avx2 avx512f avx512_bf16", "bf16-mixed", False),
        ("Features : fp asimd bf16", "bf16-mixed", False),
        ("flags : fpu avx2 avx512f", "32-true", False),
        ("nothing that is known", "bf16-mixed", False),
    ],
)
def test_bf16_without_instructions_for_it_is_told_in_one_line(monkeypatch, flags, precision, is_told):
    monkeypatch.setattr("pathlib.Path.read_text", lambda path: f"model name : A CPU\n{flags}\n")
    line = slow_precision({"accelerator": "cpu", "precision": precision})
    assert (line is not None) == is_told
    assert slow_precision({"accelerator": "gpu", "precision": precision}) is None


@pytest.mark.parametrize(
    ("images", "devices", "batch_size", "words"),
    [
        *((1024, n, 128, f"{n} devices x 128 images x {8 // n} micro-batches = 1024 images an update") for n in (2, 4)),
        (1024, 8, 128, "8 devices x 128 images = 1024 images an update"),
        (64, 1, 64, "1 device x 64 images = 64 images an update"),
        (64, 2, 64, "2 devices x 32 images = 64 images an update"),  # an update has no more
        (1000, 1, 128, "1 device x 128 images x 8 micro-batches = 1024 images an update"),  # the nearest
    ],
)
def test_an_update_has_the_recipes_images_on_any_number_of_devices(images, devices, batch_size, words):
    assert str(plan_batches(images, devices, batch_size)) == words


def test_more_devices_than_images_in_an_update_are_refused():
    with pytest.raises(ConfigError, match=r"images_per_update=2; type trainer\.devices=2 or fewer"):
        plan_batches(2, 4, 8)
