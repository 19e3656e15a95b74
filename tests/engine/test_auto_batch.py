"""batch_size=auto: a number is found before anything is launched, and the stage keeps it."""

import json
import os
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from deitlt.cli import main
from deitlt.engine import auto_batch
from deitlt.engine.auto_batch import settle_batch
from deitlt.engine.batches import plan_batches
from deitlt.engine.building import batch_plan
from deitlt.engine.stage_config import StageConfig
from deitlt.errors import ConfigError

AUTO = ("teacher.batch_size=auto", "student.batch_size=auto")
MIB = 2**20


@pytest.fixture
def free(monkeypatch):
    """Sets the memory that the CPU seems to have."""
    return lambda amount: monkeypatch.setattr(auto_batch, "free_memory", lambda device: amount)


@pytest.fixture
def waiting(trained, tmp_path):
    """Makes a stage of the trained run whose batch is yet to be found."""

    def make(name="teacher", devices=1, **recipe):
        known = StageConfig.load(trained / name / "stage.yaml")
        changed = {**known.recipe, "batch_size": "auto", "images_per_update": 64, **recipe}
        return replace(
            known, folder=str(tmp_path / name), recipe=changed, trainer={**known.trainer, "devices": devices}
        )

    return make


def number(run, stage):
    return OmegaConf.load(run / stage / "stage.yaml").recipe.batch_size


@pytest.mark.slow
def test_a_run_finds_its_batch_and_says_so(tiny, teacher, tmp_path, capfd):
    run = tmp_path / "run"
    words = ["stages=[student]", teacher, "student.batch_size=auto", "student.epochs=2", "student.drw.start_epoch=1"]
    assert main(["train", *tiny, *words, f"paths.output_dir={run}"]) == 0
    assert number(run, "student") == 16
    printed = capfd.readouterr().out.splitlines()
    assert "student: 2 epochs, 1 device x 16 images = 16 images an update" in printed
    assert any(line.startswith("student: 16 images for each device at once were found to fit") for line in printed)
    assert set(json.loads((run / "metrics.json").read_text())["student"]) == {"cls", "dist", "avg", "mean_prob"}


def test_an_interrupted_run_keeps_its_batch(begun, free, capfd):
    (begun / "student" / "last.ckpt").unlink()
    config = OmegaConf.load(begun / "config.yaml")
    config.student.batch_size = "auto"
    OmegaConf.save(config, begun / "config.yaml")
    stage = OmegaConf.load(begun / "student" / "stage.yaml")
    stage.recipe.batch_size = 8
    OmegaConf.save(stage, begun / "student" / "stage.yaml")
    free(1)  # nothing would be found
    assert main(["train", f"resume={begun}"]) == 0
    assert number(begun, "student") == 8
    assert "1 device x 8 images x 2 micro-batches = 16 images an update" in capfd.readouterr().out


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_images_of_an_update_are_kept_whatever_fits(devices, waiting, free):
    free(5 * MIB * devices)
    settled, said = settle_batch(waiting(devices=devices), None)
    plan = batch_plan(settled)
    assert (plan.devices, plan.images_per_update) == (devices, 64)
    assert 1 < plan.accumulate < 64
    assert said.startswith(f"teacher: {plan.batch_size} images for each device at once")
    assert said.endswith("of the 0.00488 GiB that are free")


def test_a_student_whose_teacher_is_yet_to_be_trained(waiting, free):
    free(100 * MIB)
    teacher = waiting("teacher")
    assert settle_batch(replace(waiting("student"), teacher=None), teacher)[0].recipe["batch_size"] == 64


def test_a_number_stays_one(waiting):
    stage = waiting(batch_size=24)
    assert settle_batch(stage, None) == (stage, None)


@pytest.mark.parametrize("name", [pytest.param("teacher", marks=pytest.mark.slow), "student"])
def test_where_nothing_fits(name, waiting, free):
    free(MIB // 8)
    wanted = rf"{name}\.batch_size=auto found no batch: not even one image's .*0\.000122 GiB.* {name}\.image_size"
    with pytest.raises(ConfigError, match=wanted):
        settle_batch(waiting(name), None)


def test_the_command_says_it_and_writes_nothing(complain, tiny, teacher, free):
    free(MIB // 8)
    said = complain("train", *tiny, "stages=[student]", teacher, "student.batch_size=auto")
    assert "student.batch_size=auto found no batch" in said


@pytest.mark.parametrize("devices", [1, 2])
def test_until_it_is_found_a_device_takes_its_share_at_once(devices):
    plan = plan_batches(64, devices, "auto")
    assert (plan.batch_size, plan.accumulate, plan.images_per_update) == (64 // devices, 1, 64)


def test_other_words_are_no_batch():
    with pytest.raises(ConfigError, match=r"batch_size=many is no number of images; type 1 or more, or auto"):
        plan_batches(64, 1, "many")


def test_inspect_needs_no_number(tiny, tmp_path):
    assert main(["inspect", *tiny, *AUTO, "paths.output_dir=seen"]) == 0
    assert (tmp_path / "seen" / "views.png").exists()


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one")
def test_two_ranks_train_with_the_number_that_was_found(tiny_vit, tmp_path, environment, monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, environment[name])
    words = ["trainer=ddp", "trainer.accelerator=cpu", "student.batch_size=auto", "paths.output_dir=run"]
    assert main(["train", *tiny_vit, *words]) == 0
    assert number(tmp_path / "run", "student") == 8
