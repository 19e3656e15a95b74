import copy
import json
import random

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from deitlt.callbacks import AnalysisWhileTraining, StudentAveraging
from deitlt.callbacks import analysis as callback_file
from deitlt.data import LongTailDataModule
from deitlt.errors import Preempted
from deitlt.losses import CrossEntropyLoss, DistillationLoss
from deitlt.models import create_student, create_teacher
from deitlt.modules import StudentModule, TeacherModule
from deitlt.tracking import AppendingCSVLogger, failures

PARTS = ("attention", "rank", "diversity", "agreement")
AGREEMENT = {"agreement": {"clean": {"all": 90.0}, "mixed": {"all": 50.0, "tail": 10.0}}}


@pytest.fixture
def data():
    """Long-tailed digits of 8 pixels: 88 images."""

    def make(**options):
        sizes = {"max_count": 20, "imbalance_factor": 0.1, "image_size": 8, "batch_size": 16}
        return LongTailDataModule.from_keys("digits", **sizes, **options)

    return make


def sgd(network):
    return torch.optim.SGD(network.parameters(), lr=0.05)


def student(info, distilled=True):
    torch.manual_seed(0)
    sizes = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
    network = create_student(10, "deit_tiny_patch16_224", distilled=distilled, drop_path=0.5, **sizes)
    return StudentModule(network, DistillationLoss("none"), info, sgd, lambda _: 0.05)


def teacher(info):
    torch.manual_seed(0)
    return TeacherModule(create_teacher(10, "cifar_resnet8"), CrossEntropyLoss(), info, sgd, lambda _: 0.05)


def watching(folder, every=2, images=20, parts=PARTS, **options):
    return AnalysisWhileTraining(folder, every, images, parts, **options)


def written(folder):
    return {path.name: json.loads(path.read_text()) for path in sorted((folder / "analysis").glob("*.json"))}


@pytest.mark.parametrize("make", [student, teacher])
def test_training_is_the_same_bit_for_bit_with_it(make, make_trainer, data, tmp_path):
    def train(callbacks):
        datamodule = data()
        module, average = make(datamodule.info), StudentAveraging(0.7)
        torch.manual_seed(1)  # drop-path's stream, which nobody begins anew here
        trainer = make_trainer(callbacks=[average, *callbacks], max_epochs=4)
        trainer.fit(module, datamodule=datamodule)
        return module.network.state_dict(), average.average.module.state_dict(), torch.rand(1)

    def ask(_):  # a careless one
        torch.rand(3), np.random.rand(3), random.random()
        return copy.deepcopy(AGREEMENT)

    plain, watched = train([]), train([watching(tmp_path, every=1, agreement=ask)])
    for one, other in zip(plain[:2], watched[:2], strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert torch.equal(plain[2], watched[2])
    assert len(written(tmp_path)) == 5


def test_it_looks_every_few_epochs_and_after_the_last_and_logs_curves(make_trainer, data, tmp_path):
    datamodule, asked = data(), []

    def ask(given):
        asked.append(given)
        return copy.deepcopy(AGREEMENT)

    logger = AppendingCSVLogger(tmp_path)
    trainer = make_trainer(callbacks=[watching(tmp_path, agreement=ask)], max_epochs=5, logger=logger)
    trainer.fit(student(datamodule.info), datamodule=datamodule)
    found = written(tmp_path)
    assert list(found) == [f"epoch_{epoch:04d}.json" for epoch in (0, 2, 4, 5)]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert [row["analysis/agreement/mixed/tail"] for row in rows] == ["10", "", "", "", ""]
    ranks = found["epoch_0002.json"]["rank"]["dist"]["components"]
    assert [row["analysis/rank/dist/block01"] for row in rows][:2] == ["", str(ranks[1])]
    first = found.pop("epoch_0000.json")
    assert asked == [datamodule]
    assert first["agreement"] == AGREEMENT["agreement"]
    assert "rank" not in first
    for name, analysis in found.items():
        assert (analysis["kind"], analysis["split"], analysis["images"]) == ("student", "train", 20)
        assert analysis["epoch"] == int(name[6:10])
        assert set(analysis["rank"]) == {"width", "cls", "dist"}
        assert {"attention_distance", "diversity"} < set(analysis)
        assert not {"agreement", "winners"} & set(analysis)


def test_the_validation_split_is_looked_at_where_there_is_one(make_trainer, data, tmp_path):
    datamodule = data(val_fraction=0.3)
    make_trainer(callbacks=[watching(tmp_path, images=1000)]).fit(student(datamodule.info), datamodule=datamodule)
    (analysis,) = written(tmp_path).values()
    assert analysis["split"] == "val"
    assert analysis["images"] == len(datamodule.splits.val)


def test_a_student_without_dist_and_a_teacher_are_measured_as_far_as_they_go(make_trainer, data, tmp_path):
    datamodule = data()
    plain, cnn = student(datamodule.info, distilled=False), teacher(datamodule.info)
    for name, module in (("vit", plain), ("cnn", cnn)):
        make_trainer(callbacks=[watching(tmp_path / name)]).fit(module, datamodule=data())
    (of_vit,), (of_cnn,) = (written(tmp_path / name).values() for name in ("vit", "cnn"))
    assert set(of_vit["rank"]) == {"width", "cls"}
    assert "diversity" not in of_vit
    assert of_cnn["kind"] == "teacher"
    assert set(of_cnn["rank"]["features"]) == {"components", "effective"}


def test_a_resumed_run_asks_the_teacher_no_more_and_finds_the_same(make_trainer, data, tmp_path):
    def train(folder, epochs, ckpt_path=None):
        datamodule, asked = data(), []
        last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        ask = watching(folder, every=1, agreement=lambda _: asked.append(1) or copy.deepcopy(AGREEMENT))
        trainer = make_trainer(callbacks=[ask, last], max_epochs=epochs, enable_checkpointing=True)
        module = student(datamodule.info)
        module.network.vit.apply(lambda part: setattr(part, "drop_prob", 0.0))  # its stream is another callback's
        trainer.fit(module, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
        return asked

    assert train(tmp_path / "whole", 4) == [1]
    assert train(tmp_path / "cut", 2) == [1]
    assert train(tmp_path / "cut", 4, tmp_path / "cut" / "last.ckpt") == []
    whole, cut = written(tmp_path / "whole"), written(tmp_path / "cut")
    assert [{**analysis, "seconds": None} for analysis in whole.values()] == [
        {**analysis, "seconds": None} for analysis in cut.values()
    ]


def test_only_the_first_rank_measures(tmp_path, data, trainer_of_another_rank):
    datamodule = data()
    callback = watching(tmp_path, every=1, agreement=lambda _: pytest.fail("another rank asked"))
    module = student(datamodule.info)
    callback.on_train_start(trainer_of_another_rank, module)
    callback.on_train_epoch_end(trainer_of_another_rank, module)
    assert not (tmp_path / "analysis").exists()


@pytest.fixture
def trainer_of_another_rank():
    """What the callback asks a trainer of another rank."""

    class OfAnotherRank:
        is_global_zero, current_epoch, max_epochs = False, 0, 1

    return OfAnotherRank()


@pytest.fixture
def warned(monkeypatch, caplog):
    """Answers with what was warned about, as if nothing had been before."""
    monkeypatch.setattr(failures, "_warned", set())
    return lambda: [record.getMessage() for record in caplog.records if record.name == failures.__name__]


def fails(*_, **__):
    torch.rand(1)
    raise OSError("No space left on device")


def test_what_fails_is_a_warning_and_leaves_training_as_it_is(make_trainer, data, tmp_path, warned, monkeypatch):
    monkeypatch.setattr(callback_file, "analyse", fails)

    def train(callbacks):
        datamodule = data()
        module = student(datamodule.info)
        torch.manual_seed(1)  # drop-path's stream, which nobody begins anew here
        trainer = make_trainer(callbacks=callbacks, max_epochs=3)
        trainer.fit(module, datamodule=datamodule)
        return module.network.state_dict(), torch.rand(1), trainer.current_epoch

    plain, watched = train([]), train([watching(tmp_path, every=1, agreement=fails)])
    assert all(torch.equal(value, watched[0][name]) for name, value in plain[0].items())
    assert plain[1:] == watched[1:]
    assert written(tmp_path) == {}
    (said,) = warned()
    assert "(No space left on device), and training goes on without it; type analysis.every=null" in said


@pytest.mark.parametrize("stop", [Preempted, KeyboardInterrupt, SystemExit])
def test_a_stop_is_no_failure(tmp_path, stop, warned):
    def stopped():
        raise stop

    with pytest.raises(stop):
        watching(tmp_path)._look("pass", stopped)
    assert not warned()


def test_a_number_that_is_none_is_absent(make_trainer, data, tmp_path, warned):
    said = {"agreement": {"clean": {"all": float("nan"), "tail": 10.0}}}
    callback, logger = watching(tmp_path, parts=["agreement"], agreement=lambda _: said), AppendingCSVLogger(tmp_path)
    datamodule = data()
    make_trainer(callbacks=[callback], logger=logger).fit(student(datamodule.info), datamodule=datamodule)
    assert written(tmp_path)["epoch_0000.json"]["agreement"] == {"clean": {"tail": 10.0}}
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert [name for name in header if name.startswith("analysis/")] == ["analysis/agreement/clean/tail"]
    assert not warned()
