"""Checkpoints of our own as networks, what they say of themselves, and in which order a network knows its classes."""

from pathlib import Path

import pytest
import torch
from external_files import make_spec
from lightning.pytorch.callbacks import ModelCheckpoint

from deitlt.callbacks import StudentAveraging
from deitlt.checkpoints import AtomicCheckpointIO, load_student, load_teacher, read_spec
from deitlt.checkpoints.spec import StoredNetwork, as_index, external_order, order_by_name
from deitlt.errors import CheckpointError, ConfigError
from deitlt.types import DataInfo

IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(4))
SIZES = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
STUDENT = {"name": "deit_tiny_patch16_224", "drop_path": 0.0, **SIZES}
TEACHER = {"name": "cifar_resnet8", "head": "linear"}


@pytest.fixture
def trained(make_trainer, student_module, teacher_module, student_batches, tmp_path):
    """Trains a network for two epochs: (its module, its average or None, the checkpoint's path)."""

    def train(kind, ema=False):
        module = student_module() if kind == "student" else teacher_module()
        module.spec = make_spec(kind, STUDENT if kind == "student" else TEACHER).as_plain()
        averaging = [StudentAveraging(0.9)] if ema else []
        last = ModelCheckpoint(tmp_path, kind, save_on_train_epoch_end=True, enable_version_counter=False)
        trainer = make_trainer(
            callbacks=[*averaging, last], max_epochs=2, enable_checkpointing=True, plugins=[AtomicCheckpointIO()]
        )
        trainer.fit(module, student_batches())
        return module, averaging[0].average.module if ema else None, tmp_path / f"{kind}.ckpt"

    return train


@pytest.fixture
def changed(student_module, tmp_path):
    """A student's checkpoint with something else in it; its path."""
    weights = {f"network.{name}": value for name, value in student_module().network.state_dict().items()}

    def change(weights=weights, **fields):
        spec = make_spec("student", STUDENT).as_plain()
        spec["model"] |= fields.pop("arguments", {})
        torch.save({"deitlt": spec | fields, "state_dict": weights}, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    return change


@torch.no_grad()
def test_a_student_and_its_average_give_what_they_gave_when_trained(trained):
    module, average, path = trained("student", ema=True)
    raw, ema = load_student(path), load_student(str(path), ema=True)
    expected, averaged = module.network.eval()(IMAGES), average(IMAGES)
    for ours, theirs in ((raw(IMAGES), expected), (ema(IMAGES), averaged)):
        assert torch.equal(ours.cls, theirs.cls)
        assert torch.equal(ours.dist, theirs.dist)
    assert not torch.equal(expected.dist, averaged.dist)
    assert not raw.training
    assert not ema.training
    assert read_spec(path) == make_spec("student", STUDENT)


@torch.no_grad()
def test_a_teacher_gives_what_it_gave_when_trained_and_is_no_student(trained):
    module, _, path = trained("teacher")
    assert torch.equal(load_teacher(path)(IMAGES), module.network.eval()(IMAGES))
    with pytest.raises(CheckpointError, match=r"teacher\.ckpt holds a teacher, no student"):
        load_student(path)


def test_a_spec_says_what_the_data_were_and_can_be_put_in_another_order(info):
    spec = make_spec("student", STUDENT)
    assert spec.info == info
    assert spec.normalisation.mean == (0.1, 0.2, 0.3)
    other = spec.in_order([3, 0, 1, 2])
    assert (other.class_names[0], other.counts[0], other.groups["tail"]) == ("dog", 2, [0])
    assert other.in_order([1, 2, 3, 0]) == spec


def test_a_student_is_no_teacher_and_has_no_average_that_is_not_there(changed):
    with pytest.raises(CheckpointError, match=r"changed\.ckpt holds a student, no teacher"):
        load_teacher(changed())
    with pytest.raises(CheckpointError, match="no moving average; type ema=false"):
        load_student(changed(), ema=True)


OTHER_WEIGHTS = "does not hold the weights that it says it holds"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pretrained": True}, "asks for 'pretrained', which this version does not know"),
        ({"name": "deit_tini_patch16_224"}, "deit_tini_patch16_224"),
        ({"patch_size": 3}, "student.model.patch_size=3"),
        ({"width": 32}, OTHER_WEIGHTS),
        ({"depth": 3}, OTHER_WEIGHTS),
        ({"distilled": False}, OTHER_WEIGHTS),
        ({"name": 5}, OTHER_WEIGHTS),
    ],
)
def test_arguments_of_another_network_are_told(changed, arguments, said):
    with pytest.raises((CheckpointError, ConfigError), match=said):
        load_student(changed(arguments=arguments))


@pytest.mark.parametrize("target", ["os.system", "deitlt.models.list_teachers", "deitlt.models.create_teacher"])
def test_nothing_is_called_that_makes_no_network_of_the_kind(changed, target):
    with pytest.raises(CheckpointError, match=f"asks for '{target}', which makes no student"):
        load_student(changed(target=target))


@pytest.mark.parametrize("weights", [None, 5, {}, {"network.vit.cls_token": 0}])
def test_a_checkpoint_without_its_weights_is_refused(changed, weights):
    with pytest.raises(CheckpointError, match=r"changed\.ckpt (does not hold the|holds no) weights"):
        load_student(changed(weights=weights))


@pytest.mark.parametrize("found", [None, 3, {}, {"kind": "student"}])
def test_a_file_without_a_spec_is_not_ours(tmp_path, found):
    torch.save({"state_dict": {}, "deitlt": found}, tmp_path / "other.ckpt")
    for read in (read_spec, load_student, load_teacher):
        with pytest.raises(CheckpointError, match=r"other\.ckpt was not written by deitlt"):
            read(tmp_path / "other.ckpt")


DAMAGE = {
    "class_names": 5,
    "target": ["deitlt.models.create_student"],
    "model": ["deit"],
    "mean": ["a", "b", "c"],
    "crop_share": "all",
    "kind": "pupil",
}


@pytest.mark.parametrize("field", DAMAGE)
def test_a_spec_of_other_kinds_of_values_is_told(field, tmp_path):
    content = {"deitlt": make_spec("student", STUDENT).as_plain() | {field: DAMAGE[field]}, "state_dict": {}}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"is damaged: it says .* for {field}"):
        load_student(tmp_path / "a.ckpt")


LABELS = (2, 0, 1)  # of the classes 0, 1, 2
AUTHORS = (2, 1, 0)  # in the authors' order, where the classes with the labels 0 and 1 are a tie that falls otherwise


def data(labels=LABELS, authors=AUTHORS):
    return DataInfo(3, (5, 2, 2), ("ant", "bee", "cat"), {"head": (0, 1, 2)}, labels, authors)


def stored(is_paco):
    return StoredNetwork(Path("theirs.pth"), "deitlt.models.create_teacher", 3, {}, {}, None, is_paco=is_paco)


@pytest.mark.parametrize(
    ("known", "wanted", "expected"),
    [
        (["ant", "bee", "cat"], ["cat", "ant", "bee"], [2, 0, 1]),
        (["ant", "bee"], ["ant", "bee"], [0, 1]),
        (["ant", "bee", "cat"], ["ant", "bee"], None),
        (["ant", "bee", "cat"], ["ant", "bee", "dog"], None),
        (["ant", "bee", "cat"], ["ant", "ant", "bee"], None),
        (["ant", "ant", "bee"], ["ant", "ant", "bee"], [0, 1, 2]),  # names that two classes share tell no order
        (["ant", "ant", "bee"], ["ant", "bee", "ant"], None),
    ],
)
def test_names_tell_where_each_wanted_class_stands(known, wanted, expected):
    assert order_by_name(known, wanted) == expected


@pytest.mark.parametrize(
    ("is_paco", "choice", "expected"),
    [
        (True, "auto", [2, 0, 1]),
        (True, "sorted", [0, 1, 2]),
        (False, "auto", [0, 2, 1]),
        (False, "authors", [0, 2, 1]),
        (False, "sorted", [0, 1, 2]),
        (False, "original", [2, 0, 1]),
    ],
)
def test_the_order_of_published_files_and_the_users_word(is_paco, choice, expected):
    assert external_order(stored(is_paco), data(), choice, "label_order") == expected
    assert external_order(stored(is_paco), data((0, 1, 2), ()), choice, "label_order") == [0, 1, 2]


def test_an_order_picks_columns():
    original = torch.tensor([[10.0, 11.0, 12.0]])  # logits of the data set's labels 0, 1, 2
    assert original[:, as_index([2, 0, 1])].tolist() == [[12.0, 10.0, 11.0]]  # of the classes of LABELS
    assert as_index([0, 1, 2]) is None


def test_an_order_that_there_is_not_is_told():
    with pytest.raises(CheckpointError, match=r"go from 3 to 9 for 3 classes; type teacher\.label_order=sorted"):
        external_order(stored(True), data((3, 9, 4), ()), "auto", "teacher.label_order")
    with pytest.raises(ConfigError, match="label_order=sortd is no choice; did you mean 'sorted'"):
        external_order(stored(False), data(), "sortd", "label_order")
