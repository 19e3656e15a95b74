import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from deitlt.callbacks import StudentAveraging
from deitlt.checkpoints import (
    AtomicCheckpointIO,
    ModelCard,
    load_student,
    load_teacher,
    read_card,
    read_checkpoint,
)
from deitlt.errors import CheckpointError, ConfigError

IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(4))
STUDENT = {
    "name": "deit_tiny_patch16_224",
    "image_size": 8,
    "patch_size": 4,
    "width": 16,
    "depth": 2,
    "heads": 2,
    "drop_path": 0.0,
}


def card(kind, model, info):
    return ModelCard(
        kind=kind,
        maker=f"create_{kind}",
        model=model,
        image_size=8,
        mean=[0.1, 0.2, 0.3],
        std=[0.4, 0.5, 0.6],
        crop_share=0.875,
        logit_scale=1.0,
        protocol="last",
        class_names=list(info.class_names),
        labels=list(info.labels),
        authors_labels=[],
        counts=list(info.counts),
        groups={name: list(classes) for name, classes in info.groups.items()},
        data={"name": "digits", "imbalance_factor": 0.05},
    )


@pytest.fixture
def trained(make_trainer, student_module, teacher_module, student_batches, info, tmp_path):
    """Trains a network for two epochs: (its module, its average or None, the checkpoint's path)."""

    def train(kind, ema=False):
        module = student_module() if kind == "student" else teacher_module()
        model = STUDENT if kind == "student" else {"name": "cifar_resnet8", "head": "linear"}
        module.card = card(kind, model, info).as_plain()
        averaging = [StudentAveraging(0.9)] if ema else []
        last = ModelCheckpoint(tmp_path, kind, save_on_train_epoch_end=True, enable_version_counter=False)
        trainer = make_trainer(
            callbacks=[*averaging, last], max_epochs=2, enable_checkpointing=True, plugins=[AtomicCheckpointIO()]
        )
        trainer.fit(module, student_batches())
        return module, averaging[0].average.module if ema else None, tmp_path / f"{kind}.ckpt"

    return train


def changed(path, change):
    """A copy of the checkpoint, with something else in it."""
    content = read_checkpoint(path)
    change(content)
    torch.save(content, path.with_name("changed.ckpt"))
    return path.with_name("changed.ckpt")


@torch.no_grad()
def test_a_student_answers_as_it_was_trained(trained):
    module, average, path = trained("student", ema=True)
    raw, ema = load_student(path), load_student(str(path), ema=True)
    expected, averaged = module.network.eval()(IMAGES), average(IMAGES)
    for ours, theirs in ((raw(IMAGES), expected), (ema(IMAGES), averaged)):
        assert torch.equal(ours.cls, theirs.cls)
        assert torch.equal(ours.dist, theirs.dist)
    assert not torch.equal(expected.dist, averaged.dist)
    assert not raw.training
    assert not ema.training


@torch.no_grad()
def test_a_teacher_answers_as_it_was_trained(trained):
    module, _, path = trained("teacher")
    assert torch.equal(load_teacher(path)(IMAGES), module.network.eval()(IMAGES))


def test_the_card_comes_back(trained, info):
    _, _, path = trained("student")
    found = read_card(path)
    assert found == card("student", STUDENT, info)
    assert found.info == info
    assert found.normalisation.mean == (0.1, 0.2, 0.3)
    assert found.normalisation.std == (0.4, 0.5, 0.6)


def test_the_other_kind_is_refused(trained):
    student, teacher = trained("student")[2], trained("teacher")[2]
    with pytest.raises(CheckpointError, match=r"student\.ckpt holds a student, no teacher"):
        load_teacher(student)
    with pytest.raises(CheckpointError, match=r"teacher\.ckpt holds a teacher, no student"):
        load_student(teacher)


def test_an_average_that_is_not_there_is_told(trained):
    with pytest.raises(CheckpointError, match="no moving average; type ema=false"):
        load_student(trained("student")[2], ema=True)


def test_arguments_that_the_model_does_not_know_are_refused(trained):
    path = changed(trained("student")[2], lambda c: c["deitlt"]["model"].update(pretrained=True))
    with pytest.raises(CheckpointError, match="asks for 'pretrained', which this version does not know"):
        load_student(path)


@pytest.mark.parametrize("arguments", [{"name": "deit_tini_patch16_224"}, {"patch_size": 3}])
def test_arguments_that_are_not_allowed_are_named(trained, arguments):
    path = changed(trained("student")[2], lambda c: c["deitlt"]["model"].update(arguments))
    with pytest.raises(ConfigError, match=str(next(iter(arguments.values())))):
        load_student(path)


@pytest.mark.parametrize("arguments", [{"width": 32}, {"depth": 3}, {"distilled": False}])
def test_weights_of_another_model_are_refused(trained, arguments):
    path = changed(trained("student")[2], lambda c: c["deitlt"]["model"].update(arguments))
    with pytest.raises(CheckpointError, match="does not hold the weights that it says it holds"):
        load_student(path)


def without_weights(content):
    del content["state_dict"]


def with_other_weights(content):
    content["state_dict"] = dict.fromkeys(content["state_dict"], 0)


@pytest.mark.parametrize("change", [without_weights, with_other_weights])
def test_a_checkpoint_without_weights_is_refused(trained, change):
    with pytest.raises(CheckpointError, match=r"changed\.ckpt (does not hold the|holds no) weights"):
        load_student(changed(trained("student")[2], change))


@pytest.mark.parametrize("found", [None, 3, {}, {"kind": "student"}])
def test_a_file_without_a_card_is_not_ours(tmp_path, found):
    torch.save({"state_dict": {}, "deitlt": found}, tmp_path / "other.ckpt")
    for read in (read_card, load_student, load_teacher):
        with pytest.raises(CheckpointError, match=r"other\.ckpt was not written by deitlt"):
            read(tmp_path / "other.ckpt")


DAMAGE = {
    "class_names": 5,
    "maker": ["create_student"],
    "model": ["deit"],
    "mean": ["a", "b", "c"],
    "crop_share": "all",
    "kind": "pupil",
}


@pytest.mark.parametrize("field", DAMAGE)
def test_a_card_of_other_kinds_of_values_is_told(field, tmp_path, info):
    content = {"deitlt": card("student", STUDENT, info).as_plain() | {field: DAMAGE[field]}, "state_dict": {}}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"is damaged: it says .* for {field}"):
        load_student(tmp_path / "a.ckpt")


@pytest.mark.parametrize(("model", "weights"), [(STUDENT | {"name": 5}, {}), (STUDENT, 5)])
def test_arguments_and_weights_of_strange_types_are_told(model, weights, tmp_path, info):
    torch.save({"deitlt": card("student", model, info).as_plain(), "state_dict": weights}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"holds no weights|does not hold the weights"):
        load_student(tmp_path / "a.ckpt")
