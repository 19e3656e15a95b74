from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from tests.modules.device_waits import Waits, per_batch
from timm.optim import create_optimizer_v2

from deitlt.callbacks import (
    DeferredReweighting,
    FiniteLoss,
    SeededSteps,
    SharpnessAwareMinimization,
    StudentAveraging,
    Throughput,
)
from deitlt.data import LongTailDataModule
from deitlt.losses import BinaryCrossEntropyLoss, DistillationLoss, LDAMLoss, PaCoLoss, VSLoss
from deitlt.models import create_paco_teacher, create_student, create_teacher
from deitlt.modules import FrozenTeacher, PaCoTeacherModule, StudentModule, TeacherModule
from deitlt.optim import ascend, restore
from deitlt.transforms import IMAGENET, Mixup, TeacherInput
from deitlt.transforms.teacher_input import training_batch
from deitlt.types import Batch, Normalisation

CIFAR = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
SIZES = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
# AdamW's and SGD's own counters lie on the host; that of a fused optimiser is on the device, and is not read.
adamw = partial(create_optimizer_v2, opt="adamw", lr=1e-3, fused=True)
sgd = partial(create_optimizer_v2, opt="momentum", lr=0.1, momentum=0.9, fused=True)


def frozen_teacher(classes=10):
    seen = TeacherInput(8, student=IMAGENET, teacher=CIFAR)
    order = torch.arange(classes).flip(0)
    return FrozenTeacher(create_teacher(classes, "cifar_resnet8"), seen, class_order=order)


def as_it_is(image_size, normalisation):
    """A transform without torchvision, which looks at its draws and constants: in a worker that waits for no device."""
    return lambda picture: torch.from_numpy(np.array(picture.resize((16, 16)))).permute(2, 0, 1) / 255


def digits(batches, **options):
    return LongTailDataModule.from_keys(
        "digits",
        max_count=2 * batches,
        imbalance_factor=1.0,
        batch_size=20,
        image_size=16,
        train=as_it_is,
        watched=(),
        **options,
    )


def student(info, kind="hard", teacher=None):
    network = create_student(info.num_classes, "deit_tiny_patch16_224", drop_path=0.1, **SIZES)
    return StudentModule(network, DistillationLoss(kind), info, adamw, lambda time: 1e-3, teacher)


@pytest.mark.parametrize("mixed", [True, False])
def test_a_students_step_waits_for_nothing(make_trainer, tmp_path, mixed):
    def run(batches):
        mixing = partial(Mixup, attention=True) if mixed else None
        teacher = frozen_teacher()
        data = digits(batches, mixing=mixing, teacher_input=teacher.input)
        drw = DeferredReweighting(0, data.info.counts, stop_mixing=False)
        callbacks = [SeededSteps(0), drw, StudentAveraging(), FiniteLoss(tmp_path), Throughput("student")]
        trainer = make_trainer(callbacks=callbacks, accumulate_grad_batches=1)
        trainer.fit(student(data.info, teacher=teacher), datamodule=data)
        assert trainer.global_step == batches

    assert per_batch(run) == {}


@pytest.mark.parametrize("loss", [LDAMLoss, VSLoss])
def test_an_update_of_a_sam_teacher_waits_for_nothing(make_trainer, tmp_path, loss):
    def run(batches):
        data = digits(batches)
        module = TeacherModule(
            create_teacher(10, "cifar_resnet8"), loss(data.info.counts), data.info, sgd, lambda time: 0.1
        )
        callbacks = [SeededSteps(0), DeferredReweighting(0, data.info.counts), FiniteLoss(tmp_path)]
        callbacks.append(SharpnessAwareMinimization(0.1))
        make_trainer(callbacks=callbacks).fit(module, datamodule=data)

    assert per_batch(run) == {}


def test_the_count_sees_who_waits(make_trainer, teacher_module, student_batches):
    def run(batches):
        module = teacher_module()
        plain = module.training_step
        module.training_step = lambda batch, batch_idx: plain(batch, batch_idx) * (1 if batch.images.any() else 2)
        make_trainer().fit(module, student_batches(batches))

    assert per_batch(run, 3, 5) == {"_local_scalar_dense in modules/test_no_waits.py": 2}


# From here on, torch's meta device stands for an accelerator: what is read from it raises, what is copied to it counts.


@pytest.fixture
def without_autocast(monkeypatch):
    """The meta device has no autocast, not even one that is off."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())


def on_meta(teacher, classes):
    """Makes a training batch on the device of what the loader would have brought there."""
    images = torch.empty(6, 3, 16, 16, device="meta")
    targets = torch.empty(6, dtype=torch.int64, device="meta")
    small = torch.empty(6, 3, 8, 8, device="meta")
    mixing = Mixup(classes, mixup=0.0, attention=True)

    def complete(images):
        return training_batch(images, targets, mixing, teacher.input, "both", np.random.default_rng(0))

    teacher.output(complete(images).teacher_images)  # constants and weights go there once
    return lambda: complete([images, small])


@pytest.mark.parametrize(
    "wait",
    [
        *(lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: bool(x.any())),
        *(lambda x: x.unique(), lambda x: torch.bincount(x), lambda x: torch.repeat_interleave(x)),
    ],
)
def test_the_count_sees_reads(wait):
    with Waits() as waits:
        wait(torch.ones(3, dtype=torch.int64))
    assert waits.found


def test_the_count_sees_copies_to_a_device():
    with Waits("meta") as waits:
        mask = torch.zeros(3, dtype=torch.bool).to("meta")
        assert torch.where(mask, 1, 2).is_meta
        torch.tensor([1.0, 2.0], device="meta")
    assert sorted(name.split()[0] for name in waits.found) == ["_to_copy", "lift_fresh"]


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_students_step_copies_nothing_to_its_device(info, kind, without_autocast):
    teacher = frozen_teacher(info.num_classes)
    complete = on_meta(teacher, info.num_classes)
    module = student(info, kind, teacher).to("meta")
    module.log = lambda *args, **kwargs: None
    module.reweight(torch.ones(4, device="meta"))
    with Waits("meta") as waits:
        loss = module.training_step(complete(), 0)
        loss.backward()
    assert waits.found == {}


@pytest.mark.parametrize("adaptive", [True, False])
def test_sam_and_the_teachers_losses_copy_nothing_to_their_device(info, adaptive):
    images, targets = torch.empty(6, 3, 16, 16, device="meta"), torch.empty(6, dtype=torch.int64, device="meta")
    network = create_teacher(4, "cifar_resnet8").to("meta")
    for loss in (LDAMLoss(info.counts), VSLoss(info.counts), BinaryCrossEntropyLoss()):
        loss.to("meta").reweight(torch.ones(4, device="meta"))
        with Waits("meta") as waits:
            loss(network(images), targets).backward()
            restore(ascend(network.parameters(), 0.1, adaptive))
        assert waits.found == {}


def test_pacos_step_copies_nothing_to_its_device(info, without_autocast):
    network = create_paco_teacher(4, "cifar_resnet8", dim=8, queue_size=16)
    module = PaCoTeacherModule(network, PaCoLoss(info.counts), info, sgd, lambda time: 0.1).to("meta")
    module.log = lambda *args, **kwargs: None
    images = torch.empty(8, 3, 16, 16, device="meta")
    batch = Batch(images, torch.empty(8, dtype=torch.int64, device="meta"))
    with Waits("meta") as waits:
        network.move_key_encoder()
        module.training_step(batch, 0).backward()
        network.enqueue(torch.empty(4, 8, device="meta"), torch.empty(4, dtype=torch.int64, device="meta"))
    assert waits.found == {}


def test_a_look_at_the_loss_copies_nothing_to_its_device(tmp_path):
    watch, outputs = FiniteLoss(tmp_path), {"loss": torch.empty((), device="meta")}
    watch.on_train_batch_end(None, None, outputs, None, 0)
    with Waits("meta") as waits:
        watch.on_train_batch_end(None, None, outputs, None, 1)
    assert waits.found == {}


def assert_waits_for_nothing_on_a_gpu(step):
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only CUDA tells of its own waiting")
def test_a_step_on_a_gpu_waits_for_nothing(info):
    images, targets = torch.rand(6, 3, 16, 16, device="cuda"), torch.tensor([0, 1, 2, 3, 0, 1], device="cuda")
    teacher, mixing = frozen_teacher(4), Mixup(4, mixup=0.0)
    module = student(info, teacher=teacher).to("cuda")
    module.log = lambda *args, **kwargs: None
    optimizer = module.configure_optimizers()

    def step():
        batch = training_batch(images, targets, mixing, teacher.input, "both", np.random.default_rng(0))
        module.training_step(batch, 0).backward()
        restore(ascend(module.network.parameters(), 0.1))
        optimizer.step()
        optimizer.zero_grad()

    step()
    assert_waits_for_nothing_on_a_gpu(step)
