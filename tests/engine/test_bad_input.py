"""What a user may do wrong with `deitlt train`: exit code 2, one sentence, nothing half-written."""

import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
import torchvision

from deitlt.cli import main
from deitlt.config import config_dir
from deitlt.engine import checks
from deitlt.models import create_teacher

# Override (or several) -> words that the sentence must have: the value, and what to type.
PACO = "teacher=cifar_paco teacher/model=paco_resnet8"
WRONG = {
    "student.epochs=abc": ("student.epochs=abc", "a whole number", "type student.epochs="),
    "student.epochs=0": ("student.epochs=0", "type student.epochs=1 or more"),
    "stages=[teacher,studnet]": ("'studnet'", "did you mean 'student'"),
    "stages=[student]": ("no teacher", "teacher.checkpoint=FILE"),
    "protocol=val": ("protocol=val", "data.val_fraction=0.1"),
    "data.imbalance_factor=0": ("data.imbalance_factor=0", "above 0 and at most 1", "type data.imbalance_factor=0.01"),
    "data.imbalance_factor=1.5": ("data.imbalance_factor=1.5", "at most 1"),
    "data.imbalance_factor=0.001": ("0.001 leaves class", "of 20 images", "type data.imbalance_factor=0.05"),
    "student.drw.start_epoch=3": ("student.drw.start_epoch=3", "0 to 2", "student.drw=null"),
    "student.drw.beta=1.5": ("beta=1.5", "below 1"),
    "student.model.patch_size=5": ("student.model.patch_size=5", "16 pixels", "1, 2, 4, 8, 16"),
    "student.model.heads=3": ("student.model.heads=3", "student.model.width=16"),
    "student.model.distilled=false": ("no DIST token", "student.model.distilled=true"),
    "+student.model.deptth=1": (
        "student.model.deptth is nothing that create_student",
        "did you mean 'student.model.depth'",
    ),
    "student.optimizer.opt=adamx": ("adamx", "deitlt train --cfg job"),
    "student.optimizer.lr=-1": ("lr=-1", "0 or more"),
    "student.transforms.train.crop=middle": ("crop=middle", "type one of padded, resized, simple"),
    "student.transforms.train.rand_augment=strong": ("strong", "or null for none"),
    "student.transforms.mixing.mixup=-1": ("mixup=-1",),
    "teacher.sam.scope=world": ("scope=world", "type one of global, rank"),
    "teacher/sam=linear": ("teacher.sam.rho.value is nothing that", "type ~teacher.sam.rho.value"),
    "teacher/schedule=epoch_cosine": ("type ~teacher.schedule.factors",),
    "stages=[student,teacher]": ("trains the student before its teacher", "type stages=[teacher,student]"),
    PACO: ("teacher.drw has no beta", "type teacher.drw=null"),
    f"{PACO} teacher.drw=null method=no_ood": ("two unmixed views", "gives mixed images", "teacher=cifar"),
    f"{PACO} teacher.drw=null teacher/transforms=weak": (
        "gives one weak_transform",
        "type teacher/transforms=paco_cifar",
    ),
    "trainer.devices=4096": ("trainer.devices=4096", "CPU core", "type trainer.devices="),
    "trainer.accelerator=tpu": ("trainer.accelerator=tpu", "did you mean 'gpu'"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.items(), ids=WRONG)
def test_a_wrong_value_is_named_with_what_to_type(words, said, complain, tiny):
    sentence = complain("train", *tiny, *words.split())
    for part in said:
        assert part in sentence


def test_a_missing_data_folder(complain, tiny, tmp_path):
    assert f"data.root={tmp_path / 'nowhere'} is not a folder; type data.root=FOLDER" in complain(
        "train", *tiny, "data=folder", "data.root=nowhere"
    )


def test_a_class_of_the_test_set_that_training_lacks(complain, tiny, image_folder):
    shutil.copytree(image_folder / "test" / "cat", image_folder / "test" / "cow")
    sentence = complain("train", *tiny, "data=folder", f"data.root={image_folder}")
    assert "'cow'" in sentence
    assert "rename or remove" in sentence


def test_a_broken_image_is_named(complain, tiny_vit, image_folder):
    broken = image_folder / "train" / "bee" / "2.png"
    broken.write_bytes(broken.read_bytes()[:50])
    sentence = complain("train", *tiny_vit, "data=folder", f"data.root={image_folder}", "data.imbalance_factor=null")
    assert str(broken) in sentence
    assert "data.on_broken=skip" in sentence


def test_a_folder_that_is_not_cifar10_is_refused_by_a_recipe_for_it(complain, tiny_vit, image_folder):
    words = [word for word in tiny_vit if not word.startswith("experiment=")]
    sentence = complain("train", "experiment=cifar10_cpu", *words, f"data.root={image_folder}")
    assert (
        f"data.root={image_folder} is not CIFAR-10, which the recipe is for: it lacks the class 'airplane'" in sentence
    )
    assert sentence.endswith("or data.expects=null for any folder.")


def test_days_on_a_cpu_are_refused_with_a_recipe_for_it_unless_a_cpu_is_asked_for(
    complain, tiny_vit, image_folder, monkeypatch, tmp_path, capfd
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    words = ["experiment=cifar10_gpu_10min", *(word for word in tiny_vit if not word.startswith("experiment="))]
    words += ["data=folder", f"data.root={image_folder}", "data.expects=null", "student.batch_size=16"]
    words += ["student.image_size=16", "data/sampler=shuffled", "data.imbalance_factor=null"]
    monkeypatch.setattr(checks, "_cpu_hours", lambda stage, network, images: 51.2 * (images == 24))
    said = "experiment=cifar10_gpu_10min would take about 2 days on this machine's CPU, for there is no GPU; type "
    sentence = complain("train", *words)
    assert said + "experiment=folder_cpu data.root=FOLDER, or trainer=cpu to train it here all the same." in sentence
    monkeypatch.setattr(checks, "_cpu_hours", lambda stage, network, images: 7.9)
    assert main(["train", *words, f"paths.output_dir={tmp_path / 'auto'}"]) == 0
    assert "trainer: there is no GPU, and this machine's CPU will take about 8 hours" in capfd.readouterr().out
    monkeypatch.setattr(checks, "_cpu_hours", None)  # not asked
    assert main(["train", *words, "trainer=cpu", f"paths.output_dir={tmp_path / 'cpu'}"]) == 0


@pytest.mark.parametrize("recipe", ["10min", "30min", "2h", "evening"])
def test_a_gpus_recipe_is_refused_before_its_data_are_fetched(complain, monkeypatch, recipe, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", None)
    monkeypatch.setattr(checks, "_cpu_hours", lambda stage, network, images: 100 * (images == 12406))
    monkeypatch.setattr(checks, "build_module", lambda stage, info: SimpleNamespace(network=None))
    sentence = complain("train", f"experiment=cifar10_gpu_{recipe}", f"data.root={tmp_path / 'nowhere'}")
    assert f"experiment=cifar10_gpu_{recipe} would take about 8 days" in sentence
    smaller = "experiment=cifar10_cpu data.root=FOLDER (half an hour; cifar10_cpu_evening: two hours), or trainer=cpu"
    assert f"type {smaller}" in sentence


def test_hours_on_a_cpu_follow_from_epochs_images_and_passes(monkeypatch):
    monkeypatch.setattr(checks.time, "perf_counter", iter([0.0, 9.0, 10.0, 12.0] * 2).__next__)
    network = create_teacher(4, "cifar_resnet8")
    stage = lambda sam: SimpleNamespace(recipe={"image_size": 32, "epochs": 50, "sam": {"enabled": sam}})  # noqa: E731
    assert checks._cpu_hours(stage(False), network, 288) == 2 / 16 * 288 * 50 / 3600  # 16 images of 32 pixels in 2 s
    assert checks._cpu_hours(stage(True), network, 288) == 2 * 2 / 16 * 288 * 50 / 3600


@pytest.mark.parametrize("words", checks.FOR_CPUS.values())
def test_the_recipes_that_are_named_for_a_cpu_are_there_and_run_on_one(words):
    recipe = words.split()[0].removeprefix("experiment=")
    text = (config_dir() / "experiment" / f"{recipe}.yaml").read_text()
    assert "override /trainer: cpu" in text or "- folder_cpu" in text


def test_a_label_of_a_csv_file_that_is_no_class(complain, tiny, image_folder, tmp_path):
    (tmp_path / "train.csv").write_text("path,label\nimages/train/ant/0.png,ant\nimages/train/bee/0.png,bee\n")
    (tmp_path / "test.csv").write_text("path,label\nimages/test/ant/0.png,ant\nimages/test/cat/0.png,cat\n")
    words = ["data=folder", "data.root=.", "data.train_csv=train.csv", "data.test_csv=test.csv"]
    sentence = complain("train", *tiny, *words)
    assert "test.csv, line 3: the label 'cat' is none of the training list's 2 classes (ant, bee)" in sentence


def test_cifar_without_files_and_network(complain, tiny, monkeypatch, tmp_path):
    def refuse(*args, **options):
        raise OSError("the network is unreachable")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", refuse)
    sentence = complain("train", *tiny, "data=cifar10", f"data.root={tmp_path}")
    assert "CIFAR10 is not in" in sentence
    assert "put the folder cifar-10-batches-py there" in sentence
    assert "the network is unreachable" in sentence


def test_a_group_of_the_paper_needs_cuts_with_the_data(complain, tiny_vit, image_folder):
    words = ["data=folder", f"data.root={image_folder}", "data.group_cuts=[2,9]"]
    assert "group_cuts" in complain("train", *tiny_vit, *words)


def test_a_folder_that_holds_a_finished_run(complain, tiny, trained):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    sentence = complain("train", *tiny, output=trained)
    assert f"{trained} holds a finished run" in sentence
    assert "paths.output_dir=" in sentence
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*")}


def test_a_folder_that_holds_a_run_that_was_begun(complain, tiny, begun):
    assert f"type resume={begun}" in complain("train", *tiny, output=begun)


def test_a_resume_of_what_cannot_go_on(complain, trained, begun, tmp_path):
    assert "nothing to resume" in complain("train", f"resume={trained}", output=None)
    for folder in (tmp_path, "nowhere"):
        assert "holds no run; type resume=FOLDER" in complain("train", f"resume={folder}", output=None)
    for checkpoint in begun.glob("*/last.ckpt"):
        checkpoint.unlink()
    assert "holds no checkpoint to resume from" in complain("train", f"resume={begun}", output=None)


def test_a_resume_with_other_overrides(complain, begun):
    sentence = complain("train", f"resume={begun}", "student.epochs=4", output=None)
    assert "student.epochs=4 has no place" in sentence
    assert f"type resume={begun} alone" in sentence


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "deitlt.data.datamodule.torch.load"])
def test_a_resumed_configuration_calls_nothing_but_ours(target, complain, begun, tmp_path):
    config = begun / "config.yaml"
    text = config.read_text()
    assert "_target_: deitlt.models.create_student\n" in text
    call = f"_target_: {target}\n    command: touch {tmp_path}/called\n"
    config.write_text(text.replace("_target_: deitlt.models.create_student\n", call))
    sentence = complain("train", f"resume={begun}", output=None)
    assert f"wants to call '{target}', and was refused" in sentence


def test_an_unwritable_folder_is_the_users_to_mend(tiny_vit, tmp_path, capfd):
    (tmp_path / "file").write_text("no folder")
    assert main(["train", *tiny_vit, "paths.output_dir=file/run"]) == 2
    err = capfd.readouterr().err.splitlines()
    assert len(err) == 1
    assert "file/run" in err[0]
    assert (tmp_path / "file").read_text() == "no folder"


def test_what_is_found_wrong_leaves_the_command_line_as_it_was(complain, tiny):
    before = list(sys.argv)
    complain("train", *tiny, "student.epochs=0")
    assert sys.argv == before


def test_a_run_that_is_to_go_on_by_itself_needs_a_folder_that_is_found_again(complain, tiny):
    sentence = complain("train", *tiny, "resume=auto", output=None)
    assert sentence.endswith("resume=auto has to know the run's folder; type paths.output_dir=FOLDER beside it.")
